package judge

import "slices"

// clock tells the minute of the rollout from the numbers of the ticks, so that nothing depends on a wall clock: every life of
// a proxy begins where the rollout was when its first tick came.
type clock struct {
	lives []life // in order of arrival
	now   int64  // seconds since the first tick
}

type life struct {
	boot  string
	begin int64 // seconds since the rollout's first tick when this life's first tick came
	first int64 // that tick's number
	last  int64 // its latest tick's number
}

// maxLives bounds how many lives of proxies are remembered: far more than restart in a rollout.
const maxLives = 64

// tick notes a tick and reports false for one that came already or is older than one that came.
func (c *clock) tick(boot string, n int64) bool {
	i := slices.IndexFunc(c.lives, func(l life) bool { return l.boot == boot })
	if i < 0 {
		if len(c.lives) == maxLives {
			c.lives = slices.Delete(c.lives, 0, 1)
		}
		c.lives = append(c.lives, life{boot: boot, begin: c.now, first: n, last: n})
		return true
	}
	l := &c.lives[i]
	if n <= l.last {
		return false
	}
	l.last = n
	c.now = max(c.now, l.begin+n-l.first)
	return true
}

func (c *clock) minute() int64 { return c.now / 60 }
