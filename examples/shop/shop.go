package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"html/template"
	"log"
	"net/http"
	"strconv"
	"time"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"euro": func(cents int) string {
		return strconv.Itoa(cents/100) + "." + strconv.Itoa(cents%100/10) + strconv.Itoa(cents%10)
	},
}).Parse(pageText))

// Shop answers requests.
type Shop struct {
	items    []Item
	stock    *Stock
	greeting string
	commit   string
	metrics  Metrics
}

// NewShop opens a shop with full shelves.
func NewShop(items []Item, greeting, commit string) *Shop {
	if greeting == "" {
		greeting = "Welcome"
	}
	return &Shop{items: items, stock: NewStock(items), greeting: greeting, commit: commit}
}

// Handler returns the routes of the shop.
func (s *Shop) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("GET /api/items", s.list)
	mux.HandleFunc("GET /api/items/{id}", s.show)
	mux.HandleFunc("GET /api/search", s.search)
	mux.HandleFunc("POST /api/cart", s.order)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) { s.metrics.Write(w) })
	return s.metrics.Count(mux)
}

// Restock is the background job: it refills the shelves until ctx is done.
func (s *Shop) Restock(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.stock.Refill()
			s.metrics.JobsDone.Add(1)
		}
	}
}

func (s *Shop) page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	data := struct {
		Greeting, Commit string
		Items            []Item
	}{s.greeting, s.commit, s.items}
	if err := page.Execute(w, data); err != nil {
		log.Printf("page: %v", err)
	}
}

func (s *Shop) list(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"items": s.items})
}

func (s *Shop) search(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, map[string]any{"items": Search(s.items, r.URL.Query().Get("q"))})
}

func (s *Shop) show(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.Atoi(r.PathValue("id"))
	item, ok := s.find(id)
	if err != nil || !ok {
		answer(w, http.StatusNotFound, map[string]string{"error": "no such item"})
		return
	}
	left, err := s.stock.Left(id)
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, http.StatusOK, map[string]any{"id": item.ID, "name": item.Name, "price": item.Price, "left": left})
}

func (s *Shop) order(w http.ResponseWriter, r *http.Request) {
	var order struct {
		ID int `json:"id"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&order); err != nil {
		answer(w, http.StatusBadRequest, map[string]string{"error": "an order is {\"id\": 1}"})
		return
	}
	if _, ok := s.find(order.ID); !ok {
		answer(w, http.StatusNotFound, map[string]string{"error": "no such item"})
		return
	}
	left, ok, err := s.stock.Take(order.ID)
	if err != nil {
		fail(w, err)
		return
	}
	if !ok {
		answer(w, http.StatusConflict, map[string]string{"error": "sold out"})
		return
	}
	s.metrics.Orders.Add(1)
	answer(w, http.StatusCreated, map[string]int{"id": order.ID, "left": left})
}

func (s *Shop) find(id int) (Item, bool) {
	for _, item := range s.items {
		if item.ID == id {
			return item, true
		}
	}
	return Item{}, false
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		log.Printf("answer: %v", err)
	}
}

func fail(w http.ResponseWriter, err error) {
	log.Printf("failed: %v", err)
	answer(w, http.StatusInternalServerError, map[string]string{"error": "the shop failed"})
}
