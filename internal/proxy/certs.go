package proxy

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// certsEvery is how often the folder of certificates is looked at.
const certsEvery = 2 * time.Second

// certs serves certificates from a folder: HOST.pem, or HOST.crt with HOST.key. A host may begin with *. for all names
// one level below. Files that change are read again.
type certs struct {
	dir    string
	suffix string // ":port" of https where it is not 443
	stamp  string
	known  atomic.Pointer[map[string]*tls.Certificate]
}

// reload reads the folder when it changed. A pair that cannot be read keeps its certificate of before; the error names
// it.
func (c *certs) reload() error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	var stamp strings.Builder
	for _, e := range entries {
		if s, err := os.Stat(filepath.Join(c.dir, e.Name())); err == nil {
			fmt.Fprintln(&stamp, e.Name(), s.Size(), s.ModTime().UnixNano())
		}
	}
	if stamp.String() == c.stamp {
		return nil
	}
	c.stamp = stamp.String()
	before := map[string]*tls.Certificate{}
	if m := c.known.Load(); m != nil {
		before = *m
	}
	found := map[string]*tls.Certificate{}
	var failed error
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		host := strings.TrimSuffix(e.Name(), ext)
		certFile := filepath.Join(c.dir, e.Name())
		keyFile := certFile
		switch ext {
		case ".pem":
		case ".crt":
			keyFile = filepath.Join(c.dir, host+".key")
		default:
			continue
		}
		host = strings.ToLower(host)
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			failed = fmt.Errorf("certificate %s: %w", certFile, err)
			if old := before[host]; old != nil {
				found[host] = old
			}
			continue
		}
		found[host] = &cert
	}
	c.known.Store(&found)
	return failed
}

// find returns the certificate of a host, nil when there is none.
func (c *certs) find(host string) *tls.Certificate {
	m := c.known.Load()
	if m == nil {
		return nil
	}
	if cert := (*m)[host]; cert != nil {
		return cert
	}
	if _, parent, ok := strings.Cut(host, "."); ok {
		return (*m)["*."+parent]
	}
	return nil
}

func (c *certs) has(host string) bool { return c.find(host) != nil }

// config is what https listens with.
func (c *certs) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if cert := c.find(hostName(hello.ServerName)); cert != nil {
				return cert, nil
			}
			return nil, fmt.Errorf("no certificate for %q", hello.ServerName)
		},
	}
}
