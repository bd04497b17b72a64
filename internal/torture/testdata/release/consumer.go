package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// beat touches the heartbeat until TERM.
func beat(m mode) error {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	for {
		if m["worker"] == "" || !m.due() {
			if err := os.WriteFile(os.Getenv("BELAY_HEARTBEAT"), []byte("beat\n"), 0o600); err != nil {
				return err
			}
		} else if m["worker"] == "die" {
			return errors.New("the worker dies")
		}
		select {
		case <-term:
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// work is a consumer: it lives as long as its heart beats. worker=crash ends it at once, worker=die later, and
// worker=stall stops its heart.
func work(m mode) error {
	if m["worker"] == "crash" {
		return errors.New("the worker cannot start")
	}
	return beat(m)
}

// single is what may run once only. It holds a lock in the volume and writes down when it finds it taken.
func single() error {
	lock, err := os.OpenFile(filepath.Join("state", "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		note("twice")
		return fmt.Errorf("another one runs: %w", err)
	}
	note("begin")
	err = beat(mode{})
	note("end")
	return err
}

func note(what string) {
	f, err := os.OpenFile(filepath.Join("state", "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintln(f, time.Now().UTC().Format(time.RFC3339Nano), what, os.Getenv("BELAY_COMMIT"))
}
