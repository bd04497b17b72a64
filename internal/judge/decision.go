package judge

// Decision is what Verdict says, without its numbers and its sentence, which take most of the time.
func (j *Judge) Decision() (d Decision, metric string) { return j.decide(j.find()) }

// Evidence is that of Verdict where stable has traffic beside next, without all the rest.
func (j *Judge) Evidence() float64 { return grown(evidence(j.rows())) }
