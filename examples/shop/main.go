// Command shop is a small tea shop: a page, a JSON API, metrics and one background job. It stands for an application
// that somebody wants to deliver: it knows nothing of Belay but the variable PORT.
package main

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, net.JoinHostPort("127.0.0.1", port)); err != nil {
		log.Fatal(err)
	}
}

// run serves on addr until ctx is done, then lets open requests end.
func run(ctx context.Context, addr string) error {
	shop := NewShop(catalogue, os.Getenv("GREETING"), os.Getenv("BELAY_COMMIT"))
	jobs := make(chan struct{})
	go func() {
		defer close(jobs)
		shop.Restock(ctx, 500*time.Millisecond)
	}()

	server := &http.Server{Addr: addr, Handler: shop.Handler(), ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.ListenAndServe() }()
	log.Printf("shop listens on %s", addr)

	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	log.Print("shop closes: open requests may end")
	closing, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := server.Shutdown(closing)
	<-jobs
	if served := <-served; !errors.Is(served, http.ErrServerClosed) {
		return served
	}
	return err
}
