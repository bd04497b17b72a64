package config

import (
	"time"

	"github.com/belay-cd/belay/internal/metric"
)

// The structs below are the table of belay.yaml: the decoder, the JSON Schema and the reference page are made from
// them. Their tags:
//
//	key       the key in the file
//	doc       what it means; the reference and the schema quote it
//	refuse    what is refused, for the reference
//	need      "yes" when the key must be there
//	columns   "always" when two columns must be written
//	names     the type of a map's keys: name, NAME or any
//	lone      the key that a lone scalar was probably meant for
//	later     "yes" when the key is accepted but not in force yet
//	least     the smallest whole number that is taken, for the schema
//	most      the largest

// File is a whole belay.yaml, with the defaults filled in.
type File struct {
	App        Name                 `key:"app" need:"yes" doc:"identity on the server; never reused for another repository" refuse:"other characters"`
	Driver     Driver               `key:"driver" doc:"what runs the instances; the same in both environments" refuse:"columns"`
	Kubernetes *Cluster             `key:"kubernetes" later:"yes" doc:"where the cluster is" refuse:"without driver: kubernetes"`
	Inputs     []Path               `key:"inputs" doc:"what the app is made of, relative to its folder: decides whether a commit concerns it; cache key" refuse:"leaves the repository"`
	Build      Build                `key:"build" need:"yes" doc:"how the artifact is made, once, for both environments"`
	Test       Test                 `key:"test" need:"yes" doc:"the three levels, run in this order; the first red one ends the delivery" refuse:"all three none"`
	Env        map[string]Env[Text] `key:"env" names:"NAME" doc:"variables of every role, check and level with start" refuse:"PORT, BELAY_*; a value that looks like a secret"`
	Secrets    Secrets              `key:"secrets" doc:"names of secrets, by the provider that has their values"`
	Migrations *Migrations          `key:"migrations" later:"yes" doc:"changes of the database's schema"`
	Roles      map[string]*Role     `key:"roles" need:"yes" names:"name" doc:"the app's processes; names are free"`
	Metrics    map[string]*Metric   `key:"metrics" names:"metric" doc:"numbers of the app: drawn, judged and usable in checks"`
	Verify     Verify               `key:"verify" doc:"what must hold right after a shift"`
	Gates      Gates                `key:"gates" doc:"conditions before Deploy production"`
	Parity     map[string]Reason    `key:"parity" names:"any" doc:"differences between the environments that are accepted on purpose, each with its reason; ids come from belay plan" refuse:"an id that does not differ (warning)"`
	Rollout    Rollout              `key:"rollout" doc:"how next replaces stable, in both environments alike"`
	Guard      Guard                `key:"guard" doc:"what rolls back by itself"`
	Monitor    Monitor              `key:"monitor" doc:"the time under watch after the last shift"`
	Notify     map[string][]Event   `key:"notify" names:"name" doc:"who is told about what; the URL is a secret of the server" refuse:"a URL in the file"`

	places
}

// Cluster is where a cluster's instances run.
type Cluster struct {
	Context   Env[Text] `key:"context" doc:"context of the cluster; in-cluster without it"`
	Namespace Env[Name] `key:"namespace" columns:"always" doc:"namespace" refuse:"one namespace for both"`
}

// Build says how the artifact is made.
type Build struct {
	Run        Command         `key:"run" doc:"compile, in a clean checkout of the commit, in the app's folder; each line must succeed"`
	Lint       []Command       `key:"lint" doc:"linters and formatters beside run, in parallel; they change no file"`
	Files      []Path          `key:"files" doc:"packed into the image; . is the commit's tracked files" refuse:"with dockerfile or image; matches nothing"`
	Base       PinnedImage     `key:"base" later:"yes" doc:"image under files, by digest" refuse:"a tag"`
	Dockerfile Path            `key:"dockerfile" later:"yes" doc:"built by buildx, podman or buildah"`
	Context    Path            `key:"context" later:"yes" doc:"of the Dockerfile" refuse:"without dockerfile"`
	Target     Text            `key:"target" later:"yes" doc:"stage of the Dockerfile" refuse:"without dockerfile"`
	Args       map[string]Text `key:"args" names:"NAME" later:"yes" doc:"arguments of the Dockerfile" refuse:"columns: one image for both"`
	Image      Repository      `key:"image" later:"yes" doc:"built elsewhere; taken by the commit's full SHA as tag, then by digest" refuse:"a tag"`
	Secrets    []Var           `key:"secrets" doc:"for private packages; never given to roles" refuse:"also under secrets"`
	Cache      []Path          `key:"cache" doc:"folders kept between builds, never packed" refuse:"also in files"`
	Timeout    Duration        `key:"timeout" doc:"of the whole build"`
}

// Test is the pyramid.
type Test struct {
	Unit        *Level `key:"unit" need:"yes" lone:"run" doc:"the cheapest level"`
	Integration *Level `key:"integration" need:"yes" lone:"run" doc:"with real services"`
	E2E         *Level `key:"e2e" need:"yes" lone:"run" doc:"against the started artifact"`
}

// Level is one level of the pyramid: a command, or the reason why there is none.
type Level struct {
	Run      Command         `key:"run" doc:"the tests" refuse:"a command that cannot fail"`
	None     Reason          `key:"none" doc:"why this level does not exist: shown everywhere" refuse:"with run; empty; todo"`
	Report   Path            `key:"report" doc:"glob of JUnit files; stdout when the command is go test -json"`
	Services []Service       `key:"services" doc:"one fresh, migrated database per run; production's major version without one" refuse:"unknown service; postgres:17"`
	Start    []Name          `key:"start" doc:"roles started from the built artifact, beside the services; $BELAY_URL, $BELAY_URL_ROLE" refuse:"unknown role; a role with schedule"`
	Shards   Count           `key:"shards" least:"1" most:"64" doc:"parallel parts by recorded timings: $BELAY_SHARD_TESTS, $BELAY_SHARD of $BELAY_SHARDS" refuse:"a command that takes no part"`
	Inputs   []Path          `key:"inputs" doc:"files, folders and globs that its result depends on: unchanged means cached; the app's inputs, else the whole commit" refuse:"matches nothing"`
	Env      map[string]Text `key:"env" names:"NAME" doc:"literal values for this level" refuse:"a literal secret"`
	Timeout  Duration        `key:"timeout" doc:"of the level"`
}

// Secrets names secrets by provider.
type Secrets struct {
	Store []Var                   `key:"store" doc:"Belay's own encrypted store" refuse:"also under env or another provider"`
	Vault map[string]ProviderPath `key:"vault" names:"NAME" doc:"Vault or OpenBao, KV version 2" refuse:"no #field; no $BELAY_ENV in it"`
	File  map[string]ServerFile   `key:"file" names:"NAME" doc:"a file on the server, or one KEY of a dotenv file" refuse:"relative; readable by others"`
	Env   map[string]DaemonVar    `key:"env" names:"NAME" doc:"a variable of the daemon" refuse:"no $BELAY_ENV in it"`
	Exec  map[string]Command      `key:"exec" names:"NAME" doc:"a command whose output is the value"`
}

// Migrations says how the schema is changed.
type Migrations struct {
	Tool        Tool     `key:"tool" doc:"goose is built in; the others run as commands" refuse:"with up"`
	Up          Command  `key:"up" doc:"any other tool: one step up" refuse:"without down"`
	Down        Command  `key:"down" doc:"one step down"`
	Status      Command  `key:"status" doc:"prints the level"`
	Dir         Path     `key:"dir" doc:"folder of the migrations, pinned with the artifact" refuse:"missing; not in files"`
	Database    Var      `key:"database" doc:"the secret with the URL" refuse:"not a secret"`
	LockTimeout Duration `key:"lock_timeout" doc:"per try, tried again with back-off"`
	Timeout     Duration `key:"timeout" doc:"of the whole job"`
	Sample      Path     `key:"sample" doc:"sanitised dump for rehearsals" refuse:"a live database"`
}

// Role is one kind of process of the app.
type Role struct {
	Run       Command              `key:"run" doc:"the process; the image's own without it" refuse:"with static; missing under files"`
	Static    Path                 `key:"static" doc:"folder in the artifact that Belay itself serves" refuse:"with run, probe or port"`
	Hosts     Env[[]Host]          `key:"hosts" columns:"always" doc:"this role takes traffic; without it a worker" refuse:"one list for both; a host in both; *; a scheme or path in it"`
	Paths     []Prefix             `key:"paths" doc:"part of the hosts' paths; the longest wins, also across apps" refuse:"without hosts; taken by another role"`
	TLS       TLS                  `key:"tls" doc:"auto: the server's certificate folder, else ACME; plain for loopback, .internal and .localhost" refuse:"without hosts"`
	Port      Count                `key:"port" least:"1" most:"65535" doc:"the fixed port of an image; without it Belay picks one, in $PORT" refuse:"with driver: process"`
	Schedule  Schedule             `key:"schedule" doc:"a job that Belay starts once per tick, on the release that has the most traffic; five cron fields and a zone" refuse:"with hosts or instances; leading * unquoted"`
	Singleton Flag                 `key:"singleton" doc:"exactly one instance across releases, handed over at the last shift: stopped, then started" refuse:"with hosts, schedule or instances"`
	Overlap   Overlap              `key:"overlap" doc:"of a job that still runs at its next tick" refuse:"without schedule"`
	Instances Env[Count]           `key:"instances" least:"1" most:"100" doc:"how many of them" refuse:"1 in production"`
	CPU       Env[Cores]           `key:"cpu" doc:"cores; no limit without it"`
	Memory    Env[Size]            `key:"memory" doc:"the instance is killed at it, never its neighbour; no limit without it" refuse:"512MB, 512m"`
	Probe     *Probe               `key:"probe" lone:"http" doc:"how Belay learns that an instance is healthy: when it starts, and for its whole life" refuse:"missing; two kinds"`
	Metrics   URLPath              `key:"metrics" doc:"path in Prometheus format on $PORT of each instance"`
	Jobs      *Jobs                `key:"jobs" doc:"what a worker's metrics are called" refuse:"without metrics"`
	Drain     Duration             `key:"drain" doc:"open requests, streams and jobs may end; then TERM, then KILL"`
	Timeout   Duration             `key:"timeout" doc:"of a scheduled job" refuse:"without schedule"`
	Env       map[string]Env[Text] `key:"env" names:"NAME" doc:"variables of this role only" refuse:"a name that env has"`
	Volumes   map[string]Path      `key:"volumes" names:"name" doc:"kept between releases, shared by the role's instances; all else is read-only but $TMPDIR" refuse:"absolute under driver: process"`
}

// Probe is one kind of probe and its timing.
type Probe struct {
	HTTP        URLPath  `key:"http" doc:"path on $PORT; 2xx and 3xx are healthy" refuse:"on a role that cannot listen; a path without /"`
	TCP         Flag     `key:"tcp" doc:"the port accepts a connection"`
	Exec        Command  `key:"exec" doc:"exit 0 is healthy"`
	Heartbeat   Duration `key:"heartbeat" doc:"the file $BELAY_HEARTBEAT is touched at least that often"`
	Log         Pattern  `key:"log" doc:"a line of the log means ready"`
	Every       Duration `key:"every" doc:"time between two probes"`
	Timeout     Duration `key:"timeout" doc:"of one probe" refuse:"at least every"`
	StartWithin Duration `key:"start_within" doc:"time to become healthy"`
}

// Jobs names a worker's metrics.
type Jobs struct {
	Done   MetricName `key:"done" doc:"counter of finished jobs"`
	Failed MetricName `key:"failed" doc:"counter of failed jobs"`
	Lag    MetricName `key:"lag" doc:"gauge of the lag in seconds"`
}

// Metric is a number of the app.
type Metric struct {
	Query Query `key:"query" need:"yes" doc:"a part of PromQL" refuse:"unknown function"`
	Good  Good  `key:"good" doc:"which way is better; only drawn without it"`
	Unit  Text  `key:"unit" doc:"for display"`
}

// Verify is what must hold right after a shift.
type Verify struct {
	ErrorRate Percent               `key:"error_rate" doc:"most errors of next right after the shift; above it nothing goes on" refuse:"at least the guard's"`
	Latency   Growth                `key:"latency" doc:"most that next's p95 may be above the baseline"`
	Checks    map[string]*CheckSpec `key:"checks" names:"check" lone:"http" doc:"http, tcp and run also at 0 % traffic; all in both environments"`
}

// CheckSpec is one kind of check and its fields.
type CheckSpec struct {
	HTTP     URLPath         `key:"http" doc:"path on role" refuse:"a URL of another host"`
	Method   Method          `key:"method" doc:"of the request"`
	Headers  map[string]Text `key:"headers" names:"any" doc:"of the request"`
	Send     Text            `key:"send" doc:"body of the request"`
	Status   Status          `key:"status" doc:"what must come back"`
	Body     Text            `key:"body" doc:"what the answer must contain"`
	JSON     map[string]Text `key:"json" names:"any" doc:"path to value; \"*\": present"`
	Within   Duration        `key:"within" doc:"longest time of the answer"`
	Critical Flag            `key:"critical" doc:"repeated from the first traffic to the end of Monitor; two 5xx in a row roll back" refuse:"with another kind; with a method that is not GET or HEAD"`
	TCP      Addr            `key:"tcp" doc:"an integration is reachable"`
	Run      Command         `key:"run" doc:"a synthetic user flow: $BELAY_URL, exit 0"`
	Metric   Expression      `key:"metric" doc:"an expression that must be true; under traffic only" refuse:"unknown name"`
	Role     Name            `key:"role" doc:"the role that is asked; the first that serves the path without it"`
	Only     Only            `key:"only" doc:"the one environment in which it runs; listed by parity"`
	Timeout  Duration        `key:"timeout" doc:"of the check"`
}

// Gates are conditions before Deploy production.
type Gates struct {
	Approvals *Approvals `key:"approvals" doc:"people who must agree"`
	Window    Window     `key:"window" doc:"when traffic may shift up in production; a rollback never asks" refuse:"no zone; unknown zone; an empty span"`
}

// Approvals is how many people must agree, and who.
type Approvals struct {
	Need   Count    `key:"need" need:"yes" least:"1" doc:"how many" refuse:"more than from has"`
	From   []Text   `key:"from" doc:"people, or one group; the author never counts alone"`
	Expire Duration `key:"expire" doc:"then the delivery ends; nothing is locked meanwhile"`
}

// Rollout is how next replaces stable.
type Rollout struct {
	Strategy    Strategy  `key:"strategy" doc:"one for both environments"`
	Steps       []Step    `key:"steps" doc:"shares of next and how long each is held; then all but the holdback" refuse:"not canary; not rising; 100%"`
	Split       Split     `key:"split" doc:"visitor: drawn once and kept; request: drawn each time" refuse:"with rolling"`
	Sticky      *Visitors `key:"sticky" doc:"the app's own id of a visitor" refuse:"with split: request; with rolling"`
	MinSoak     Duration  `key:"min_soak" doc:"before proved may end a step; rolling watches that long after each instance" refuse:"longer than a step"`
	StagingHold Duration  `key:"staging_hold" doc:"each hold in staging"`
}

// Visitors says where the app's own id of a visitor, or a segment, is read from.
type Visitors struct {
	Cookie Text `key:"cookie" doc:"name of a cookie"`
	Header Text `key:"header" doc:"name of a header"`
}

// Guard is what rolls back by itself.
type Guard struct {
	ErrorRate      Limit                `key:"error_rate" doc:"errors of next that stable does not show"`
	Latency        Factor               `key:"latency" doc:"p95 of next against the baseline"`
	FailedProbes   Count                `key:"failed_probes" least:"1" doc:"in a row"`
	FalseRollbacks Percent              `key:"false_rollbacks" doc:"chance that a release that is no worse is rolled back" refuse:"above 5%"`
	Margin         Percent              `key:"margin" doc:"slower than this is harm" refuse:"0%"`
	ErrorFloor     Percent              `key:"error_floor" doc:"points of errors below which nothing is harm"`
	Undecided      Undecided            `key:"undecided" doc:"when a step's time is over and nothing is proven: ladder goes on with enough requests, else sends the app's own checks, else asks; ask waits for a person; wait holds; promote goes on"`
	Endpoints      []EndpointPattern    `key:"endpoints" doc:"measured and judged each on its own; * is one segment; by first segment without it"`
	Segments       map[string]*Visitors `key:"segments" names:"name" doc:"errors by user segment"`
}

// Monitor is the time under watch after the last shift.
type Monitor struct {
	For      Duration `key:"for" doc:"and stable stays warm and complete exactly that long"`
	Holdback Percent  `key:"holdback" doc:"stays on stable for the comparison; canary 5%, blue-green 0%" refuse:"with rolling"`
}

// Expression is what a metric check must find true.
type Expression struct {
	Text string
	Expr *metric.Expr
}

func (e *Expression) parse(s string) *fault {
	expr, err := metric.ParseExpr(s)
	if err != nil {
		return metricFault("expression", s, err)
	}
	*e = Expression{Text: s, Expr: expr}
	return nil
}
func (*Expression) shape() shape    { return shape{name: "expression"} }
func (e Expression) String() string { return e.Text }

// Query is where a metric's number comes from.
type Query struct {
	Text  string
	Query *metric.Query
}

func (q *Query) parse(s string) *fault {
	query, err := metric.ParseQuery(s)
	if err != nil {
		return metricFault("query", s, err)
	}
	*q = Query{Text: s, Query: query}
	return nil
}
func (*Query) shape() shape    { return shape{name: "query"} }
func (q Query) String() string { return q.Text }

// MetricName is the name of a Prometheus metric.
type MetricName string

func (m *MetricName) parse(s string) *fault {
	if !metricNamePattern.MatchString(s) {
		return &fault{id: "metric-name", why: "not the name of a metric", hint: "jobs_done_total"}
	}
	*m = MetricName(s)
	return nil
}
func (*MetricName) shape() shape { return shape{name: "metric", pattern: metricNamePattern.String()} }

// Level returns the levels of the pyramid in their order.
func (t Test) Level() []struct {
	Name  string
	Level *Level
} {
	return []struct {
		Name  string
		Level *Level
	}{{"unit", t.Unit}, {"integration", t.Integration}, {"e2e", t.E2E}}
}

var levelTimeouts = map[string]time.Duration{"unit": DefaultUnitTimeout, "integration": DefaultIntegrationTimeout, "e2e": DefaultE2ETimeout}
