package torture

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// leakyFile is an app that prints its secrets wherever something of it runs.
const leakyFile = `app: torture
build: { run: python3 app.py build, files: [app.py, names, mode], secrets: [BUILD_0, BUILD_1, BUILD_2, BUILD_3, BUILD_4, BUILD_5, BUILD_6], lint: [test -s mode] }
test:
  unit:        { run: python3 app.py test }
  integration: { none: the app has one part only }
  e2e:         { none: the torture tests are its visitors }
secrets:
  store: [STORE_0, STORE_1, STORE_2, STORE_3, STORE_4, STORE_5, STORE_6, STORE_7, STORE_8, STORE_9]
  vault: { VAULT_0: kv/shop/$BELAY_ENV#value }
  file:  { FILE_0: FILES/$BELAY_ENV.pem, FILE_1: FILES/$BELAY_ENV.env#SMTP }
  env:   { ENV_0: PLANTED_0_$BELAY_ENV, ENV_1: PLANTED_1_$BELAY_ENV }
  exec:  { EXEC_0: printenv HANDED_0_$BELAY_ENV, EXEC_1: printenv HANDED_1_$BELAY_ENV }
roles:
  web:
    run: python3 app.py web
    hosts: { staging: [staging.torture.localhost], production: [torture.localhost] }
    probe: { http: /healthz, every: 1s, timeout: 900ms }
    drain: 1s
  tick: { run: python3 app.py job, schedule: "*/8 * * * * * UTC", timeout: 20s }
verify:
  error_rate: 20%
  latency: +2000%
  checks:
    flow: { run: python3 app.py flow }
CHECKSrollout: { strategy: blue-green, staging_hold: 0s }
guard: { error_rate: 30% for 5s, latency: 50x, failed_probes: 5 }
monitor: { for: 1s }
notify: { oncall: [started, waiting, held, rolled_back, failed, done], team: [started, failed, done] }
`

// failing are checks whose answers hold secrets.
const failing = `    broken: { http: /broken }
    moved:  { http: /moved }
    cut:    { http: /cut }
`

// leaky is the world of the planted values: what is where, and what was found.
type leaky struct {
	*world
	garden garden
	leaks  *leaks
	files  string
	stdin  map[string]string // arguments of secret set to the value
	legit  map[int]bool      // numbers that the daemon's own environment has
	told   atomic.Int64      // messages that came to the receiver
}

var environments = []domain.Environment{domain.Staging, domain.Production}

// plantAll makes the fifty values and lays them where the providers look. It comes before the server.
func (l *leaky) plantAll(t *testing.T) {
	vault := map[string]string{}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(l.files, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	variable := func(name string) {
		t.Setenv(name, l.garden.plant(-1))
		l.legit[len(l.garden.all)] = true
	}
	for _, env := range environments {
		for n := range 10 {
			l.stdin[fmt.Sprintf("STORE_%d --env %s", n, env)] = l.garden.plant(n)
		}
		vault["/v1/kv/data/shop/"+string(env)] = l.garden.plant(-1)
		write(string(env)+".pem", l.garden.plant(6)+"\n")
		write(string(env)+".env", "# mail\nexport SMTP='"+l.garden.plant(2)+"'\n")
		for n := range 2 {
			variable(fmt.Sprintf("PLANTED_%d_%s", n, env))
			variable(fmt.Sprintf("HANDED_%d_%s", n, env))
		}
	}
	t.Setenv("BELAY_EXEC_ENV", "torture:HANDED_0_staging torture:HANDED_1_staging torture:HANDED_0_production torture:HANDED_1_production")
	for n := range 7 {
		l.stdin[fmt.Sprintf("BUILD_%d --env build", n)] = l.garden.plant(n + 3)
	}
	t.Setenv("VAULT_TOKEN", l.garden.plant(0))
	l.legit[len(l.garden.all)] = true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		value, ok := vault[r.URL.Path]
		if !ok {
			http.Error(w, `{"errors":["no token `+r.Header.Get("X-Vault-Token")+`"]}`, http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, `{"data":{"data":{"value":%q},"metadata":{"version":1,"destroyed":false,"deletion_time":""}}}`, value)
	}))
	t.Cleanup(server.Close)
	t.Setenv("VAULT_ADDR", server.URL)
	l.plantChannels(t)
}

// plantChannels makes one channel whose receiver answers with all that it got, and one that nobody answers.
func (l *leaky) plantChannels(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		l.leaks.look("a notification", body)
		l.told.Add(1)
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, "cannot take %s%s with %s", r.Host, r.URL, r.Header.Get("Authorization"))
	}))
	t.Cleanup(receiver.Close)
	for name, at := range map[string]string{"notify/oncall": strings.TrimPrefix(receiver.URL, "http://"), "notify/team --app torture": freeAddress(t)} {
		u := url.URL{Scheme: "http", Host: at, User: url.UserPassword("belay", l.garden.plant(0)), Path: "/hooks/" + l.garden.plant(0)}
		u.RawQuery = url.Values{"key": {l.garden.plant(4)}}.Encode()
		u.Fragment = "secret=" + l.garden.plant(0)
		l.stdin[name] = u.String()
	}
}

// set hands the values over as people do.
func (l *leaky) set(t *testing.T) {
	for args, value := range l.stdin {
		cmd := exec.Command(binaries.belay, append([]string{"-C", l.repo, "secret", "set"}, strings.Fields(args)...)...)
		cmd.Env = append(os.Environ(), "BELAY_SERVER=unix://"+filepath.Join(l.data, "run", "belay.sock"), "NO_COLOR=1")
		cmd.Stdin = strings.NewReader(value)
		out, err := runChild(cmd)
		l.leaks.look("secret set", []byte(out))
		if err != nil {
			t.Fatalf("secret set %s: %v (%d bytes said)", args, err, len(out))
		}
	}
}

// commitLeaky makes a commit of the app with this mode and these checks more.
func (l *leaky) commitLeaky(mode, checks string) {
	l.write("belay.yaml", strings.NewReplacer("FILES", l.files, "CHECKS", checks).Replace(leakyFile), 0o644)
	l.write("mode", mode+"\n", 0o644)
	l.git("add", "--all")
	l.git("commit", "--quiet", "--message", mode)
}

// run uses a command and searches what it says.
func (l *leaky) run(args ...string) (int, string) {
	code, out := l.belay(args...)
	l.leaks.look("belay "+strings.Join(args, " "), []byte(out))
	return code, out
}

// deliverLeaky ships the newest commit, looks at what follows it says, and returns how it ended.
func (l *leaky) deliverLeaky(t *testing.T, number int, want domain.DeliveryState) {
	_, out := l.run("ship")
	if _, err := l.api1.Delivery(t.Context(), appName, number); err != nil {
		t.Fatalf("delivery %d: %v: %s", number, err, l.safe(out))
	}
	if d := l.await(number, 30*time.Second); d.State != want {
		t.Fatalf("%s is wanted: %s", want, l.safe(describe(d)+"\n"+out))
	}
}

// safe is a text for the report of a failure, unless there are values in it.
func (l *leaky) safe(text string) string {
	if found := l.leaks.finder.in([]byte(text)); len(found) > 0 {
		return fmt.Sprintf("(not shown: it has the values %v)", found)
	}
	return text
}

// ask reads an answer of the API. A stream is read for a second.
func (l *leaky) ask(t *testing.T, path string) []byte {
	socket := filepath.Join(l.data, "run", "belay.sock")
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	if strings.Contains(path, "/events") {
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
	}
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://belay"+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%s: %v", path, err)
	}
	if res.StatusCode != http.StatusOK {
		t.Errorf("%s: %s", path, res.Status)
	}
	l.leaks.look("GET "+path, append(fmt.Append(nil, res.Header, "\n"), data...))
	return data
}

// lookAtAnswers reads everything that the API and the commands tell.
func (l *leaky) lookAtAnswers(t *testing.T) {
	app := "/v1/apps/" + appName
	paths := []string{"/v1/apps", app, app + "/deliveries", app + "/secrets", app + "/channels", "/v1/health", "/v1/events?after=0",
		app + "/secrets/history?name=STORE_0", app + "/secrets/history?name=BUILD_0", "/v1/secrets/history?name=notify/oncall"}
	for n := range 3 {
		one := fmt.Sprintf("%s/deliveries/%d", app, n+1)
		paths = append(paths, one, one+"/evidence", one+"/explain", one+"/changes", one+"/logs")
	}
	for _, path := range paths {
		l.ask(t, path)
	}
	for _, log := range []string{app + "/deliveries/1/logs?stage=build", app + "/deliveries/2/logs", app + "/logs?role=web", app + "/logs?role=tick"} {
		if data := l.ask(t, log); !bytes.Contains(data, []byte("[redacted]")) {
			t.Errorf("%s masks nothing: is anything printed? %d bytes", log, len(data))
		}
	}
	for _, args := range [][]string{
		{"status"}, {"status", "--json"}, {"show", "--all", "1"}, {"show", "--all", "2"}, {"show", "--all", "3"}, {"show", "--json", "3"},
		{"explain", "2"}, {"explain", "3"}, {"logs", "1"}, {"logs", "2"}, {"plan"}, {"plan", "--json"}, {"secret", "list"}, {"secret", "list", "--json"},
		{"secret", "check"}, {"secret", "history", "STORE_1"}, {"notify", "list"}, {"notify", "test", "oncall"}, {"notify", "test", "team"},
		{"show", "--evidence", "1"}, {"check"},
	} {
		l.run(args...)
	}
}

// lookAtFiles searches the data folder, except the keys and what instances wrote into their own logs. Compressed files are
// searched unpacked, too.
func (l *leaky) lookAtFiles(t *testing.T) {
	files, blobs := 0, 0
	err := filepath.WalkDir(l.data, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // instances come and go
		case err != nil:
			return err
		}
		rel, _ := filepath.Rel(l.data, path)
		if d.IsDir() && rel == "keys" {
			return fs.SkipDir
		}
		if !d.Type().IsRegular() || rel == "ballast" || strings.HasPrefix(rel, "instances/") && strings.HasPrefix(d.Name(), "log") {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil //nolint:nilerr // it went away
		}
		files++
		place := rel
		if strings.HasPrefix(rel, "instances/") || strings.HasPrefix(rel, "repo/") {
			place = filepath.Join(strings.Split(rel, "/")[0], d.Name())
		}
		l.leaks.look("the name of "+place, []byte(rel))
		l.leaks.look(place, data)
		if z, err := gzip.NewReader(bytes.NewReader(data)); err == nil {
			unpacked, _ := io.ReadAll(z)
			l.leaks.look(place+" unpacked", unpacked)
			blobs++
		}
		return nil
	})
	if err != nil || files < 20 || blobs < 3 {
		t.Errorf("%d files, %d packed ones were searched: %v", files, blobs, err)
	}
}

// watchProcesses looks at every process beneath this one until stop is closed: its arguments, its limit of core files, and for
// Belay's own also its environment. It returns the programs that it saw.
func (l *leaky) watchProcesses(stop <-chan struct{}) (seen map[string]int, cores []string) {
	seen = map[string]int{}
	for {
		for _, p := range descendants() {
			dir := fmt.Sprintf("/proc/%d/", p.pid)
			l.leaks.look("the arguments of a process", []byte(p.what))
			limits, _ := os.ReadFile(dir + "limits")
			environ, _ := os.ReadFile(dir + "environ")
			words := strings.Fields(p.what)
			if len(words) < 2 || len(environ) == 0 {
				continue
			}
			kind := filepath.Base(words[0]) + " " + words[1]
			switch kind {
			case "belay serve", "belay proxy", "belay shim":
				for n := range l.leaks.finder.numbers(environ) {
					if kind != "belay serve" || !l.legit[n] {
						l.leaks.look("the environment of "+kind, environ)
					}
				}
			case "python3 app.py":
				kind += " " + words[len(words)-1]
			default:
				continue
			}
			if seen[kind]++; bytes.Contains(limits, []byte("Max core file size")) && !coreIsOff(limits) && !slices.Contains(cores, kind) {
				cores = append(cores, kind)
			}
		}
		select {
		case <-stop:
			return seen, cores
		case <-time.After(300 * time.Millisecond):
		}
	}
}

func coreIsOff(limits []byte) bool {
	for line := range strings.Lines(string(limits)) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok {
			return strings.HasPrefix(strings.TrimSpace(rest), "0 ")
		}
	}
	return false
}

// visit sends values where visitors should not: in paths, queries and headers. The proxy counts them by path.
func (l *leaky) visit(t *testing.T) {
	for n, p := range slices.Concat(l.garden.all[:10], l.garden.all[17:27]) {
		value := url.PathEscape(p.value)
		for _, path := range []string{"/" + value, "/pay/" + value + "?token=" + url.QueryEscape(p.value)} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.http+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = productionHost
			req.Header.Set("Authorization", "Bearer "+url.QueryEscape(p.value))
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatalf("visit %d: %T", n, err)
			}
			res.Body.Close()
		}
	}
}

// Fifty secrets of every provider are printed by builds, jobs, probes, checks, crashes and commands, as they are and encoded.
// None is found in what Belay tells, logs or stores, nor in the list of processes; and no process leaves a core file.
func TestFiftyPlantedSecretsAreFoundNowhere(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("no python3 on this machine")
	}
	l := &leaky{stdin: map[string]string{}, legit: map[int]bool{}, files: t.TempDir(), leaks: &leaks{found: map[string][]string{}}}
	l.plantAll(t)
	if len(l.garden.all) != 50 {
		t.Fatalf("%d values are planted", len(l.garden.all))
	}
	l.leaks.finder = l.garden.finder()
	l.world = newWorld(t, "1s", "")
	for _, name := range []string{"app", "aim"} {
		if err := os.Remove(filepath.Join(l.repo, name)); err != nil {
			t.Fatal(err)
		}
	}
	app, err := os.ReadFile("testdata/leaky/app.py")
	if err != nil {
		t.Fatal(err)
	}
	l.write("app.py", string(app), 0o644)
	names := "VAULT_0 FILE_0 FILE_1 ENV_0 ENV_1 EXEC_0 EXEC_1 BUILD_0 BUILD_1 BUILD_2 BUILD_3 BUILD_4 BUILD_5 BUILD_6"
	for n := range 10 {
		names += fmt.Sprintf(" STORE_%d", n)
	}
	l.write("names", names+"\n", 0o644)
	l.commitLeaky("good", "")
	stop, watched := make(chan struct{}), make(chan struct{})
	var seen map[string]int
	var cores []string
	go func() {
		seen, cores = l.watchProcesses(stop)
		close(watched)
	}()
	l.set(t)
	l.deliverLeaky(t, 1, domain.DoneState)
	l.visit(t)
	for _, env := range environments {
		code, out := l.run("exec", string(env), "--", "python3", "app.py", "fail")
		if code != 7 || !strings.Contains(out, "[redacted]") {
			t.Errorf("exec in %s ended with %d: %s", env, code, l.safe(out))
		}
	}
	l.commitLeaky("fails its flow", failing)
	l.deliverLeaky(t, 2, domain.FailedState)
	l.commitLeaky("crash", "")
	l.deliverLeaky(t, 3, domain.FailedState)
	l.lookAtAnswers(t)
	printed := l.printed()
	l.lookAtFiles(t)
	close(stop)
	<-watched
	l.killServe()
	l.lookAtFiles(t)
	log, err := os.ReadFile(filepath.Join(l.dir, "serve.log"))
	if err != nil {
		t.Fatal(err)
	}
	l.leaks.look("serve.log", log)

	// What was planted was really told, else nothing is shown.
	if len(printed) != 34 || l.told.Load() == 0 {
		t.Errorf("the instances wrote %d of the 34 values of their environments into their logs; %d messages came", len(printed), l.told.Load())
	}
	for _, kind := range []string{"belay serve", "belay proxy", "belay shim", "python3 app.py web"} {
		if seen[kind] == 0 {
			t.Errorf("no process %s was seen: %v", kind, seen)
		}
	}
	if len(cores) > 0 {
		t.Errorf("these may leave core files: %v", cores)
	}
	t.Logf("%d texts searched, processes %v, serve.log %d bytes", l.leaks.looked, seen, len(log))
	for place, found := range l.leaks.found {
		t.Errorf("%s has the values %v", place, found)
	}
}

// printed lists the values that instances wrote into their own logs, where they lie as they were written.
func (l *leaky) printed() map[int]bool {
	logs, _ := filepath.Glob(filepath.Join(l.data, "instances", "*", "*", "*", "*", "log*"))
	all := map[int]bool{}
	for _, name := range logs {
		data, _ := os.ReadFile(name)
		for n := range l.leaks.finder.numbers(data) {
			all[n] = true
		}
	}
	return all
}
