package config

import (
	"fmt"
	"strings"
)

const columnsHere = "write the value where it is used: { staging: …, production: … }"

// synonym is a word that people type for something that has another name here.
type synonym struct {
	why  string // "" : "… has no such key"
	hint string
}

// anywhere are synonyms that no part of the file has.
var anywhere = map[string]synonym{
	"environments": {hint: columnsHere},
	"environment":  {hint: columnsHere},
	"extends":      {hint: "a file stands alone: write the values out"},
	"include":      {hint: "a file stands alone: write the values out"},
	"version":      {hint: "leave it out: the file has no version"},
	"if":           {why: "nothing is conditional", hint: "every stage runs; a check in one environment says only: staging"},
	"when":         {why: "nothing is conditional", hint: "every stage runs; a check in one environment says only: staging"},
	"skip":         {why: "no stage can be skipped", hint: "take it away"},
	"restart":      {hint: "leave it out: next is started beside stable, never a restart in place"},
}

// synonyms by the kind of place, as placeKind names it.
var synonyms = map[string]map[string]synonym{
	"top": {
		"name": {hint: "did you mean app?"}, "variables": {hint: "did you mean env?"}, "vars": {hint: "did you mean env?"},
		"services": {hint: "did you mean roles? test levels have services of their own"}, "processes": {hint: "did you mean roles?"},
		"process": {hint: "did you mean roles?"}, "jobs": {hint: "roles, with schedule: for a job"}, "cron": {hint: "roles.NAME.schedule"},
		"command": {hint: "roles.NAME.run"}, "cmd": {hint: "roles.NAME.run"}, "start": {hint: "roles.NAME.run"}, "run": {hint: "build.run, or roles.NAME.run"},
		"replicas": {hint: "roles.NAME.instances"}, "count": {hint: "roles.NAME.instances"}, "scale": {hint: "roles.NAME.instances"}, "instances": {hint: "roles.NAME.instances"},
		"host": {hint: "roles.NAME.hosts"}, "hosts": {hint: "roles.NAME.hosts"}, "domain": {hint: "roles.NAME.hosts"}, "domains": {hint: "roles.NAME.hosts"},
		"healthcheck": {hint: "roles.NAME.probe"}, "health": {hint: "roles.NAME.probe"}, "readiness": {hint: "roles.NAME.probe"}, "probe": {hint: "roles.NAME.probe"},
		"port": {hint: "leave it out and listen on $PORT"}, "ports": {hint: "leave it out and listen on $PORT"},
		"image": {hint: "build.image"}, "image_tag": {hint: "leave it out: the commit's SHA is the tag"}, "dockerfile": {hint: "build.dockerfile"},
		"canary": {hint: "rollout: { strategy: canary }"}, "bluegreen": {hint: "rollout: { strategy: blue-green }"}, "rolling": {hint: "rollout: { strategy: rolling }"},
		"strategy": {hint: "rollout: { strategy: … }"}, "deploy": {hint: "rollout says how; roles say what"}, "deployment": {hint: "rollout says how; roles say what"},
		"steps": {hint: "rollout.steps"}, "weights": {hint: "rollout.steps"}, "timezone": {hint: "it stands in gates.window: Mon-Fri 09:00-16:00 Europe/Berlin"},
		"approvals": {hint: "gates.approvals"}, "approvers": {hint: "gates.approvals.from"}, "reviewers": {hint: "gates.approvals.from"}, "window": {hint: "gates.window"},
		"tests": {hint: "did you mean test?"}, "checks": {hint: "verify.checks"}, "script": {hint: "build.run"}, "lint": {hint: "build.lint"},
		"secret": {hint: "did you mean secrets?"}, "rollback": {hint: "guard says when; nothing needs to be switched on"}, "stages": {hint: "leave it out: all seven always run, in one order"},
	},
	"role": {
		"command": {hint: "did you mean run?"}, "cmd": {hint: "did you mean run?"}, "start": {hint: "did you mean run?"}, "script": {hint: "did you mean run?"},
		"replicas": {hint: "did you mean instances?"}, "count": {hint: "did you mean instances?"}, "scale": {hint: "did you mean instances?"},
		"host": {hint: "did you mean hosts?"}, "domain": {hint: "did you mean hosts?"}, "domains": {hint: "did you mean hosts?"},
		"healthcheck": {hint: "did you mean probe?"}, "health": {hint: "did you mean probe?"}, "readiness": {hint: "did you mean probe?"}, "liveness": {hint: "did you mean probe?"},
		"ports": {hint: "did you mean port? an app listens on $PORT"}, "cron": {hint: "did you mean schedule?"}, "timezone": {hint: "it stands in schedule: 0 3 * * * Europe/Berlin"},
		"environment": {hint: "did you mean env?"}, "variables": {hint: "did you mean env?"}, "image_tag": {hint: "leave it out: the commit's SHA is the tag"},
		"image": {hint: "one artifact for all roles: build.image"}, "strategy": {hint: "one for the app: rollout.strategy"}, "path": {hint: "did you mean paths?"},
		"mem": {hint: "did you mean memory?"}, "cpus": {hint: "did you mean cpu?"}, "services": {hint: "tests have services; secrets name a database"},
	},
	"level": {
		"skip": {why: "no level can be skipped", hint: "say why there is none: { none: <reason> }"},
		"if":   {why: "no level can be skipped", hint: "say why there is none: { none: <reason> }"}, "when": {why: "no level can be skipped", hint: "say why there is none: { none: <reason> }"},
		"command": {hint: "did you mean run?"}, "cmd": {hint: "did you mean run?"}, "script": {hint: "did you mean run?"},
		"steps": {hint: "one command: run; several lines with |"}, "environment": {hint: "did you mean env?"}, "variables": {hint: "did you mean env?"},
		"retries": {hint: "leave it out: a flaky test is shown as flaky"}, "allow_failure": {why: "no level can be skipped", hint: "say why there is none: { none: <reason> }"},
	},
	"build": {
		"command": {hint: "did you mean run?"}, "cmd": {hint: "did you mean run?"}, "script": {hint: "did you mean run?"}, "steps": {hint: "one command: run; several lines with |"},
		"image_tag": {hint: "leave it out: the commit's SHA is the tag"}, "tag": {hint: "leave it out: the commit's SHA is the tag"}, "env": {hint: "write it into run; build.secrets for private packages"},
		"artifacts": {hint: "did you mean files?"}, "output": {hint: "did you mean files?"},
	},
	"probe":     {"path": {hint: "did you mean http?"}, "url": {hint: "did you mean http?"}, "command": {hint: "did you mean exec?"}, "cmd": {hint: "did you mean exec?"}, "run": {hint: "did you mean exec?"}, "interval": {hint: "did you mean every?"}, "initial_delay": {hint: "did you mean start_within?"}},
	"check":     {"path": {hint: "did you mean http?"}, "url": {hint: "did you mean http?"}, "command": {hint: "did you mean run?"}, "cmd": {hint: "did you mean run?"}, "script": {hint: "did you mean run?"}, "code": {hint: "did you mean status?"}, "environment": {hint: "did you mean only?"}, "environments": {hint: "did you mean only?"}},
	"rollout":   {"canary": {hint: "strategy: canary"}, "bluegreen": {hint: "strategy: blue-green"}, "blue_green": {hint: "strategy: blue-green"}, "weights": {hint: "did you mean steps?"}},
	"gates":     {"approvers": {hint: "approvals: { need: 1, from: […] }"}, "reviewers": {hint: "approvals: { need: 1, from: […] }"}, "timezone": {hint: "it stands in window: Mon-Fri 09:00-16:00 Europe/Berlin"}},
	"approvals": {"approvers": {hint: "did you mean from?"}, "reviewers": {hint: "did you mean from?"}, "count": {hint: "did you mean need?"}, "timeout": {hint: "did you mean expire?"}},
}

// placeKind names the kind of mapping that a path is.
func placeKind(path string) string {
	parts := strings.Split(path, ".")
	switch {
	case path == "":
		return "top"
	case parts[0] == "roles" && len(parts) == 2:
		return "role"
	case parts[0] == "roles" && len(parts) == 3 && parts[2] == "probe":
		return "probe"
	case parts[0] == "test" && len(parts) == 2:
		return "level"
	case strings.HasPrefix(path, "verify.checks."):
		return "check"
	default:
		return parts[len(parts)-1]
	}
}

// unknown reports a key that a mapping does not have, with what was probably meant.
func (w *walker) unknown(path string, p pair, known fields) {
	owner := path
	if path == "" {
		owner = w.owner
	}
	why := owner + " has no such key"
	if path == "" && p.name != "" && isMapping(p.value) {
		why = owner + " has no such block"
	}
	var hint string
	s, ok := synonyms[placeKind(path)][p.name]
	if !ok {
		s, ok = anywhere[p.name]
	}
	if ok {
		hint = s.hint
		if s.why != "" {
			why = s.why
		}
	} else if near := nearest(p.name, known.keys()); near != "" {
		hint = "did you mean " + near + "?"
	} else {
		hint = "it has: " + strings.Join(known.keys(), ", ")
	}
	w.add(Error, "unknown-key", p.at, fmt.Sprintf("unknown key %q: %s", p.name, why), hint)
}
