package config

import "github.com/belay-cd/belay/internal/judge"

// Judge is what a file holds a release to, without what is known only when its rollout begins: how long it is watched, and
// what was before it. Without a file it is what holds where nobody said otherwise.
func (f *File) Judge() judge.Config {
	c := judge.Config{
		Alpha: DefaultFalseRollbacks, Beta: JudgeBeta, Ratio: JudgeRatio, Floor: DefaultErrorFloor,
		Margin: 1 + DefaultMargin, Grain: JudgeGrain, Limit: DefaultVerifyErrorRate,
	}
	if f != nil {
		c.Alpha, c.Floor = float64(f.Guard.FalseRollbacks), float64(f.Guard.ErrorFloor)
		c.Margin, c.Limit = 1+float64(f.Guard.Margin), float64(f.Verify.ErrorRate)
	}
	return c
}
