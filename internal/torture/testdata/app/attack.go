package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// aim is what the adversary is after. It stands in the file "aim" of the commit, one NAME=VALUE per line, because an
// adversary would know where a server of this kind keeps its things.
func aim() map[string]string {
	at := map[string]string{}
	file, err := os.Open("aim")
	if err != nil {
		return at
	}
	defer file.Close()
	for scan := bufio.NewScanner(file); scan.Scan(); {
		name, value, _ := strings.Cut(scan.Text(), "=")
		at[name] = value
	}
	return at
}

// attack tries every way and prints one line for each: "IN who way" when it worked, "OUT who way: why" when not.
func attack(who string) {
	at := aim()
	data, pid := at["data"], at["pid"]
	fmt.Println("ATTACK", who, data, pid)
	if data == "" {
		return
	}
	try := func(way string, f func() error) {
		if err := f(); err != nil {
			fmt.Printf("OUT %s %s: %v\n", who, way, err)
		} else {
			fmt.Printf("IN %s %s\n", who, way)
		}
	}
	read := func(path string) func() error {
		return func() error { _, err := os.ReadFile(path); return err }
	}
	list := func(path string) func() error {
		return func() error { _, err := os.ReadDir(path); return err }
	}
	write := func(path string) func() error {
		return func() error { return os.WriteFile(path, []byte("was here"), 0o644) }
	}
	try("read the store", read(filepath.Join(data, "belay.db")))
	try("list the keys", list(filepath.Join(data, "keys")))
	try("write the routes", write(filepath.Join(data, "proxy", "table.json")))
	try("write into the data folder", write(filepath.Join(data, "was-here")))
	try("write a release", write(filepath.Join(data, "releases", "was-here")))
	try("list the releases of all apps", list(filepath.Join(data, "releases")))
	try("read another app's volume", read(at["other"]))
	try("list all instances", list(filepath.Join(data, "instances")))
	try("read the repository", list(filepath.Join(data, "repo")))
	if who == "instance" { // builds and tests may write into their checkout
		try("write the own release", write("was-here-too"))
	}
	for _, sock := range []string{"belay.sock", "proxy.sock"} {
		try("ask at "+sock, func() error { return dial("unix", filepath.Join(data, "run", sock)) })
	}
	for _, name := range []string{"environ", "mem", "root/etc/hostname", "cwd", "fd"} {
		path := filepath.Join("/proc", pid, name)
		try("read /proc of the daemon: "+name, func() error {
			if name == "cwd" {
				_, err := os.Readlink(path)
				return err
			}
			if name == "fd" {
				return list(path)()
			}
			return read(path)()
		})
	}
	var n int
	fmt.Sscan(pid, &n)
	try("signal the daemon", func() error { return syscall.Kill(n, 0) })
	try("trace the daemon", func() error { return syscall.PtraceAttach(n) })
	for _, path := range []string{"/v1/health", "/v1/apps", "/v1/events", "/v1/apps/torture/status"} {
		try("ask the API without a token: "+path, func() error { return ask(http.MethodGet, "http://"+at["api"]+path, "") })
	}
	try("ask the API with a guessed token", func() error { return ask(http.MethodGet, "http://"+at["api"]+"/v1/apps", "admin") })
	try("roll back over the API", func() error {
		return ask(http.MethodPost, "http://"+at["api"]+"/v1/apps/torture/rollback", "")
	})
	fmt.Println("ATTACKED", who)
}

func dial(network, address string) error {
	c, err := net.DialTimeout(network, address, time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

func ask(method, url, token string) error {
	r, err := http.NewRequest(method, url, strings.NewReader("{}"))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{Timeout: 2 * time.Second}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 300 {
		return fmt.Errorf("answered %s", answer.Status)
	}
	return nil
}
