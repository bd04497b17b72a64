package registry_test

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/belay-cd/belay/internal/registry"
)

// TestMain lets the test binary be a registry in a process of its own, so that it can be killed.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "registry" {
		s, err := registry.Open(os.Args[2], registry.Options{})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		server := httptest.NewServer(s.Handler())
		fmt.Println(strings.TrimPrefix(server.URL, "http://"))
		select {}
	}
	os.Exit(m.Run())
}

// child starts a registry on dir and returns its address and how to kill it.
func child(t *testing.T, dir string) (host string, kill func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "registry", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line), func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// TestKilledAtAnyInstant kills the registry while several clients push. What was acknowledged is there and whole, what was
// not is whole or absent, and the next push of the same goes through.
func TestKilledAtAnyInstant(t *testing.T) {
	dir := t.TempDir()
	for round := range 6 {
		host, kill := child(t, dir)
		images, refs := make([]v1.Image, 4), make([]name.Reference, 4)
		acknowledged := make([]bool, 4)
		var wg sync.WaitGroup
		for i := range images {
			img, err := random.Image(200<<10, 2)
			if err != nil {
				t.Fatal(err)
			}
			images[i], refs[i] = img, ref(t, host, fmt.Sprintf("shop:r%d-%d", round, i))
			wg.Go(func() {
				once := remote.WithRetryBackoff(remote.Backoff{Steps: 1})
				client := remote.WithTransport(&http.Transport{DisableKeepAlives: true})
				acknowledged[i] = remote.Write(refs[i], images[i], once, client) == nil
			})
		}
		timer := time.AfterFunc(time.Duration(3+round*9)*time.Millisecond, kill)
		wg.Wait()
		if timer.Stop() {
			kill()
		}
		s := open(t, dir, registry.Options{})
		for i := range images {
			tag := fmt.Sprintf("r%d-%d", round, i)
			digest, err := s.Resolve("shop", tag)
			if err == nil {
				err = s.Verify(t.Context(), digest)
			} else if !acknowledged[i] {
				err = nil
			}
			if err != nil {
				t.Errorf("%s, acknowledged %v: %v", tag, acknowledged[i], err)
			}
			again := serve(t, s)
			if err := remote.Write(ref(t, again, "shop:"+tag), images[i]); err != nil {
				t.Errorf("%s cannot be pushed again: %v", tag, err)
			}
		}
	}
	open(t, dir, registry.Options{})
	if left, _ := filepath.Glob(filepath.Join(dir, "uploads", "tmp-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestPruneLeavesWholeFoldersOnly(t *testing.T) {
	s := open(t, t.TempDir(), registry.Options{})
	dir := releases(t)
	stays := store(t, s, nil, "", []entry{{name: "a/b", body: "stays"}})
	goes := store(t, s, nil, "", []entry{{name: "a/b", body: "goes"}})
	for _, d := range []string{stays, goes} {
		if err := s.Unpack(t.Context(), d, registry.Folder(dir, d)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, ".unpack-torn", "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := registry.SweepUnpacked(dir); err != nil {
		t.Fatal(err)
	}
	gone, err := registry.Prune(dir, []string{stays})
	if err != nil || len(gone) != 1 || gone[0] != goes {
		t.Errorf("%v, %v", gone, err)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 || entries[0].Name() != stays[7:] {
		t.Errorf("%v", entries)
	}
}
