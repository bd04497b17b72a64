package judge

// Decision is what Verdict says, without its numbers and its sentence, which take most of the time.
func (j *Judge) Decision() (d Decision, metric string) { return j.decide(j.find()) }
