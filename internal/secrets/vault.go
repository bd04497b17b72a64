package secrets

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits of asking Vault.
const (
	vaultWithin  = 10 * time.Second // one value, with all tries
	vaultTimeout = 4 * time.Second  // one try
	vaultTries   = 3
	vaultPause   = 200 * time.Millisecond // before the second try, doubled each time
	vaultAnswer  = 1 << 20                // bytes
)

// Vault reads values from the KV engine, version 2, of HashiCorp Vault or OpenBao. Where it is, and with what it is asked, the
// daemon's own variables say: VAULT_ADDR, VAULT_NAMESPACE, VAULT_CACERT, and VAULT_TOKEN, VAULT_TOKEN_FILE, or VAULT_ROLE_ID
// with VAULT_SECRET_ID or VAULT_SECRET_ID_FILE (AppRole). A commit names mounts, paths and fields only.
//
// It is safe for concurrent use.
type Vault struct {
	// Lookup reads a variable of the daemon. Default os.LookupEnv.
	Lookup func(string) (string, bool)
	// Pause before the second try; 0 is the usual one.
	Pause time.Duration

	once   sync.Once
	client *http.Client
	failed error // why there is no client

	mu    sync.Mutex
	token string    // of an AppRole
	until time.Time // how long it can be used
}

// vaultError is an answer of Vault that is no value.
type vaultError struct {
	status int
	said   []string
	data   json.RawMessage
}

func (e *vaultError) Error() string {
	if len(e.said) == 0 {
		return http.StatusText(e.status)
	}
	return strings.Join(e.said, "; ")
}

// Private lists the files that hold what the daemon shows to Vault: no app's secret is read from them.
func (v *Vault) Private() []string {
	var files []string
	for _, name := range []string{"VAULT_TOKEN_FILE", "VAULT_SECRET_ID_FILE"} {
		if file := v.variable(name); file != "" {
			files = append(files, file)
		}
	}
	return files
}

func (v *Vault) variable(name string) string {
	lookup := v.Lookup
	if lookup == nil {
		lookup = os.LookupEnv
	}
	value, _ := lookup(name)
	return strings.TrimSpace(value)
}

// Read returns the value at mount/path#field, and the version that Vault gives it.
func (v *Vault) Read(ctx context.Context, place string) (value string, version int, err error) {
	where, field, ok := cutLast(place, "#")
	mount, secret, both := strings.Cut(where, "/")
	if !ok || !both || field == "" || secret == "" || strings.Contains("/"+where+"/", "/../") {
		return "", 0, fmt.Errorf("%s: mount/path#field is expected", place)
	}
	ctx, cancel := context.WithTimeout(ctx, vaultWithin)
	defer cancel()
	var answer struct {
		Data     map[string]json.RawMessage `json:"data"`
		Metadata struct {
			Version  int    `json:"version"`
			Deletion string `json:"deletion_time"`
		} `json:"metadata"`
	}
	data, err := v.get(ctx, mount, secret)
	if err != nil {
		return "", 0, v.explain(err, mount, secret)
	}
	if err := json.Unmarshal(data, &answer); err != nil || answer.Metadata.Version == 0 {
		return "", 0, fmt.Errorf("%s: mount %s does not speak KV version 2", place, mount)
	}
	raw, ok := answer.Data[field]
	if !ok {
		return "", 0, fmt.Errorf("%s has no field %s (it has %s)", where, field, fieldsOf(answer.Data))
	}
	if err := json.Unmarshal(raw, &value); err != nil {
		var number json.Number
		if json.Unmarshal(raw, &number) != nil {
			return "", 0, fmt.Errorf("field %s of %s is no text", field, where)
		}
		value = number.String()
	}
	return value, answer.Metadata.Version, nil
}

func fieldsOf(data map[string]json.RawMessage) string {
	names := make([]string, 0, len(data))
	for name := range data {
		names = append(names, name)
	}
	slices.Sort(names)
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// explain says in our words what Vault answered. Its own words are left out where they may repeat what was sent.
func (v *Vault) explain(err error, mount, secret string) error {
	where := mount + "/" + secret
	var e *vaultError
	if !errors.As(err, &e) {
		return err
	}
	said := e.Error()
	switch {
	case e.status == http.StatusForbidden:
		return fmt.Errorf("vault does not let this server read %s: its policy needs read on %s/data/%s (or its token has expired)", where, mount, secret)
	case e.status == http.StatusNotFound && strings.Contains(said, "no handler for route"):
		return fmt.Errorf("vault has no mount %s", mount)
	case e.status == http.StatusNotFound && len(e.data) > 0 && string(e.data) != "null":
		return fmt.Errorf("the newest version of %s in vault is deleted or destroyed", where)
	case e.status == http.StatusNotFound:
		return fmt.Errorf("vault has nothing at %s", where)
	case e.status == http.StatusServiceUnavailable && strings.Contains(strings.ToLower(said), "seal"):
		return errors.New("vault is sealed: somebody has to unseal it")
	case e.status == http.StatusBadRequest && strings.Contains(said, "namespace"):
		return fmt.Errorf("vault: namespace %q is unknown", v.variable("VAULT_NAMESPACE"))
	default:
		return fmt.Errorf("vault answered %d for %s", e.status, where)
	}
}

// get reads one secret's document, again after an answer that another try may mend.
func (v *Vault) get(ctx context.Context, mount, secret string) (json.RawMessage, error) {
	pause := v.Pause
	if pause == 0 {
		pause = vaultPause
	}
	for try := 1; ; try++ {
		token, err := v.login(ctx)
		var data json.RawMessage
		if err == nil {
			data, err = v.call(ctx, http.MethodGet, path.Join(mount, "data", secret), token, nil)
		}
		var e *vaultError
		switch {
		case err == nil:
			return data, nil
		case errors.As(err, &e) && e.status == http.StatusForbidden && v.forget(token) && try == 1:
			continue // a token of an AppRole that was revoked: take a new one, once
		case errors.As(err, &e) && !again(e), try == vaultTries, !errors.As(err, &e) && !temporary(err):
			return nil, err
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return nil, err
		}
	}
}

// again reports whether another try may be answered otherwise.
func again(e *vaultError) bool {
	sealed := e.status == http.StatusServiceUnavailable && strings.Contains(strings.ToLower(e.Error()), "seal")
	return !sealed && (e.status >= 500 || e.status == http.StatusTooManyRequests || e.status == http.StatusPreconditionFailed)
}

// errTransport is a request that got no answer.
type errTransport struct{ cause error }

func (e *errTransport) Error() string { return "vault is not reached: " + e.cause.Error() }
func (e *errTransport) Unwrap() error { return e.cause }

func temporary(err error) bool {
	var t *errTransport
	var unknown x509.UnknownAuthorityError
	return errors.As(err, &t) && !errors.As(err, &unknown) && !errors.Is(err, context.Canceled)
}

// login returns the token to ask with.
func (v *Vault) login(ctx context.Context) (string, error) {
	if token := v.variable("VAULT_TOKEN"); token != "" {
		return token, nil
	}
	if file := v.variable("VAULT_TOKEN_FILE"); file != "" {
		return ownFile(file)
	}
	role := v.variable("VAULT_ROLE_ID")
	if role == "" {
		return "", errors.New("vault: the daemon was given no VAULT_TOKEN, VAULT_TOKEN_FILE or VAULT_ROLE_ID")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.token != "" && time.Now().Before(v.until) {
		return v.token, nil
	}
	secret := v.variable("VAULT_SECRET_ID")
	if file := v.variable("VAULT_SECRET_ID_FILE"); secret == "" && file != "" {
		var err error
		if secret, err = ownFile(file); err != nil {
			return "", err
		}
	}
	body, err := json.Marshal(map[string]string{"role_id": role, "secret_id": secret})
	if err != nil {
		return "", err
	}
	raw, err := v.send(ctx, http.MethodPost, "auth/approle/login", "", body)
	var e *vaultError
	if errors.As(err, &e) && !again(e) {
		return "", fmt.Errorf("vault does not accept the AppRole of this server (status %d)", e.status)
	}
	if err != nil {
		return "", err
	}
	var answer struct {
		Auth struct {
			Token string  `json:"client_token"`
			Lease float64 `json:"lease_duration"`
		} `json:"auth"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil || answer.Auth.Token == "" {
		return "", errors.New("vault: its answer to the AppRole holds no token")
	}
	v.token, v.until = answer.Auth.Token, time.Now().Add(time.Duration(answer.Auth.Lease*0.8)*time.Second)
	return v.token, nil
}

// ownFile reads what the daemon was given in a file.
func ownFile(path string) (string, error) {
	text, err := os.ReadFile(path)
	return strings.TrimSpace(string(text)), err
}

// forget drops the token of an AppRole, and reports whether there was one.
func (v *Vault) forget(token string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if token == "" || v.token != token {
		return false
	}
	v.token = ""
	return true
}

// call returns the data of an answer.
func (v *Vault) call(ctx context.Context, method, where, token string, body []byte) (json.RawMessage, error) {
	raw, err := v.send(ctx, method, where, token, body)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, errors.New("vault: its answer is no JSON: is VAULT_ADDR the address of a Vault?")
	}
	return answer.Data, nil
}

func (v *Vault) send(ctx context.Context, method, where, token string, body []byte) ([]byte, error) {
	client, err := v.http()
	if err != nil {
		return nil, err
	}
	base, err := url.Parse(v.variable("VAULT_ADDR"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, errors.New("vault: the daemon was given no VAULT_ADDR, such as https://vault.example.com:8200")
	}
	ctx, cancel := context.WithTimeout(ctx, vaultTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, base.JoinPath("v1", where).String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Vault-Request", "true")
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	if ns := v.variable("VAULT_NAMESPACE"); ns != "" {
		req.Header.Set("X-Vault-Namespace", ns)
	}
	res, err := client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the address may hold a password
		}
		return nil, &errTransport{err}
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, vaultAnswer))
	if err != nil {
		return nil, &errTransport{err}
	}
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		return text, nil
	}
	failed := &vaultError{status: res.StatusCode}
	var said struct {
		Errors []string        `json:"errors"`
		Data   json.RawMessage `json:"data"`
	}
	if json.Unmarshal(text, &said) == nil {
		failed.said, failed.data = said.Errors, said.Data
	}
	return nil, failed
}

// http returns the client, which trusts the system's authorities or those of VAULT_CACERT. It follows no redirect: a token is
// shown to the address that the administrator named only.
func (v *Vault) http() (*http.Client, error) {
	v.once.Do(func() {
		trust := &tls.Config{MinVersion: tls.VersionTLS12}
		if file := v.variable("VAULT_CACERT"); file != "" {
			text, err := os.ReadFile(file)
			if err != nil {
				v.failed = fmt.Errorf("vault: VAULT_CACERT: %w", err)
				return
			}
			trust.RootCAs = x509.NewCertPool()
			if !trust.RootCAs.AppendCertsFromPEM(text) {
				v.failed = fmt.Errorf("vault: VAULT_CACERT: %s holds no certificate", file)
				return
			}
		}
		v.client = &http.Client{
			Transport: &http.Transport{
				TLSClientConfig: trust, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConns: 2, IdleConnTimeout: time.Minute,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	})
	return v.client, v.failed
}
