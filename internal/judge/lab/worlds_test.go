package lab

import (
	"math"
	"time"
)

// day is a load that rises and falls, and errors with it.
func day(d dice) func(int) Weather {
	phase := d.Float64() * 2 * math.Pi
	return func(second int) Weather {
		wave := math.Sin(2*math.Pi*float64(second)/1800 + phase)
		return Weather{1 + 0.9*wave, 0.003 * (1 + 0.8*wave), 1 + 0.4*wave, 500}
	}
}

// storms are bursts of load, and outages that both releases share.
func storms(d dice) func(int) Weather {
	burst, outage, rate := 0, 0, 0.0
	return func(int) Weather {
		w := Weather{1, 0.001, 1, 500}
		if burst--; burst > 0 {
			w.Load = 4
		} else if d.IntN(120) == 0 {
			burst = 3 + d.IntN(20)
		}
		if outage--; outage > 0 {
			w.Errors, w.Slower = rate, 5
		} else if d.IntN(300) == 0 {
			outage, rate = 3+d.IntN(30), 0.05+0.6*d.Float64()
		}
		return w
	}
}

// drift is an error rate and a latency with a memory: AR(1).
func drift(d dice) func(int) Weather {
	x := 0.0
	return func(int) Weather {
		x = 0.98*x + 0.25*d.NormFloat64()
		return Weather{1, min(0.5, 0.002*math.Exp(x)), math.Exp(x / 4), 500}
	}
}

// steps are weights that change, in any weather.
func steps(d dice) func(int) Weather {
	weather := storms(d)
	return func(second int) Weather {
		w := weather(second)
		w.Weight = []int{100, 500, 2500, 5000, 9500, 500}[second/300%6]
		return w
	}
}

// endpoints fail at different rates; a segment cuts them once more.
var endpoints = []Part{
	{"GET /", false, 0.5, 0.5}, {"GET /search", false, 0.3, 1}, {"POST /pay", false, 0.15, 2}, {"GET /old", false, 0.05, 20},
	{"plan=free", true, 0.8, 1}, {"plan=pro", true, 0.2, 1},
}

// crowd are visitors who keep their release: a few of them make most of the requests, a few have a trouble of their own.
var crowd = Visitors{Tail: 1.15, Most: 400, Prone: 0.01, Trouble: 0.3}

// errorWorlds are worlds in which nothing is wrong with next, and errors are what is looked at.
func errorWorlds() []World {
	return []World{
		{Name: "flat", Rate: 500, Errors: 0.001, Weight: 500},
		{Name: "flat, 1 %", Rate: 500, Errors: 0.005, Weight: 100},
		{Name: "flat, a coin for each, 50 %", Rate: 100, Errors: 0.003, Weight: 5000, Deal: Independent},
		{Name: "holdback of 5 %", Rate: 200, Errors: 0.001, Weight: 9500},
		{Name: "little traffic", Rate: 5, Errors: 0.02, Weight: 1000},
		{Name: "diurnal", Rate: 200, Weight: 500, Weather: day},
		{Name: "bursts and shared outages", Rate: 100, Weight: 500, Weather: storms},
		{Name: "AR(1) error rate", Rate: 200, Weight: 500, Weather: drift},
		{Name: "changing weights in storms", Rate: 100, Weight: 500, Weather: steps},
		{Name: "visitors in clusters, drawn once", Rate: 100, Errors: 0.001, Weight: 500, Visitors: &crowd, Weather: storms},
		{Name: "visitors in clusters while weights change", Rate: 100, Errors: 0.001, Visitors: &crowd, Weather: steps},
		{Name: "visitors in clusters, 50 %", Rate: 50, Errors: 0.001, Weight: 5000, Visitors: &crowd},
		{Name: "4 endpoints, 2 plans, storms", Rate: 100, Errors: 0.002, Weight: 500, Parts: endpoints, Weather: storms},
	}
}

var (
	usualLatency = LogNormal(20*time.Millisecond, 46*time.Millisecond) // a standard deviation of a half in logarithms
	wideLatency  = LogNormal(20*time.Millisecond, 80*time.Millisecond)
	cached       = LogNormal(2*time.Millisecond, 5*time.Millisecond).Mixed(LogNormal(60*time.Millisecond, 300*time.Millisecond), 0.3)
)

// latencyWorlds are the same for latency.
func latencyWorlds() []World {
	return []World{
		{Name: "flat", Rate: 50, Errors: 0.001, Weight: 500, Latency: usualLatency},
		{Name: "50 %, a coin for each", Rate: 20, Errors: 0.001, Weight: 5000, Latency: wideLatency, Deal: Independent},
		{Name: "a cache that hits and misses", Rate: 50, Errors: 0.001, Weight: 1000, Latency: cached},
		{Name: "diurnal", Rate: 50, Weight: 500, Latency: usualLatency, Weather: day},
		{Name: "shared slowness", Rate: 30, Weight: 500, Latency: usualLatency, Weather: storms},
		{Name: "AR(1)", Rate: 30, Weight: 500, Latency: cached, Weather: drift},
		{Name: "changing weights in storms", Rate: 30, Weight: 500, Latency: usualLatency, Weather: steps},
		{Name: "first requests of visitors", Rate: 100, Errors: 0.001, Weight: 1000, Latency: cached, Visitors: &crowd},
	}
}
