package process

import (
	"net"
	"os"
	"slices"
	"testing"
)

func TestListening(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if got := listening(os.Getpid()); !slices.Contains(got, port) {
		t.Errorf("listening = %v, want %d among them", got, port)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := listening(os.Getpid()); slices.Contains(got, port) {
		t.Errorf("listening = %v, though %d is closed", got, port)
	}
}
