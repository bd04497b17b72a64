//go:build integration

package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func open(t *testing.T) (*Shop, string) {
	shop := NewShop(catalogue, "Hello", "4f2c81a")
	server := httptest.NewServer(shop.Handler())
	t.Cleanup(server.Close)
	return shop, server.URL
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

func TestIntegrationPage(t *testing.T) {
	_, url := open(t)
	status, body := get(t, url+"/")
	for _, want := range []string{"Hello", "Assam tea", "8.90", "4f2c81a", "</html>"} {
		if status != 200 || !strings.Contains(body, want) {
			t.Errorf("%d, without %q", status, want)
		}
	}
}

func TestIntegrationItem(t *testing.T) {
	_, url := open(t)
	status, body := get(t, url+"/api/items/1")
	var item struct{ Name string }
	if err := json.Unmarshal([]byte(body), &item); err != nil || status != 200 || item.Name != "Assam tea" {
		t.Fatalf("%d %s", status, body)
	}
	if status, _ := get(t, url+"/api/items/99"); status != 404 {
		t.Fatalf("unknown item: %d", status)
	}
}

func TestIntegrationSearch(t *testing.T) {
	_, url := open(t)
	if status, body := get(t, url+"/api/search?q=tea"); status != 200 || !strings.Contains(body, "Darjeeling") {
		t.Fatalf("%d %s", status, body)
	}
}

func TestIntegrationOrder(t *testing.T) {
	shop, url := open(t)
	answer, err := http.Post(url+"/api/cart", "application/json", strings.NewReader(`{"id": 3}`))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != 201 || shop.metrics.Orders.Load() != 1 {
		t.Fatalf("%d, %d orders", answer.StatusCode, shop.metrics.Orders.Load())
	}
	answer, err = http.Post(url+"/api/cart", "application/json", strings.NewReader(`tea please`))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != 400 {
		t.Fatalf("nonsense: %d", answer.StatusCode)
	}
}

func TestIntegrationMetricsAndJob(t *testing.T) {
	shop, url := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	go shop.Restock(ctx, time.Millisecond)
	for shop.metrics.JobsDone.Load() == 0 && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	cancel()
	status, body := get(t, url+"/metrics")
	if status != 200 || strings.Contains(body, "shop_jobs_done_total 0") {
		t.Fatalf("%d %s", status, body)
	}
}
