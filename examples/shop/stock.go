package main

import (
	"fmt"
	"sync"
)

const fullShelf = 1000

// Stock says how many of each item are left. It may be used by many at once.
type Stock struct {
	mu    sync.Mutex
	shelf map[int]int
}

// NewStock fills a shelf for each item.
func NewStock(items []Item) *Stock {
	stock := &Stock{shelf: make(map[int]int, len(items))}
	for _, item := range items {
		stock.shelf[item.ID] = fullShelf
	}
	return stock
}

// Left returns how many of an item there are.
func (s *Stock) Left(id int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left, ok := s.shelf[id]
	if !ok {
		return 0, fmt.Errorf("item %d has no shelf", id)
	}
	return left, nil
}

// Take removes one of an item and returns how many are left. It reports false when there are none.
func (s *Stock) Take(id int) (left int, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left, known := s.shelf[id]
	if !known {
		return 0, false, fmt.Errorf("item %d has no shelf", id)
	}
	if left == 0 {
		return 0, false, nil
	}
	s.shelf[id]--
	return left - 1, true, nil
}

// Refill puts every shelf back to full.
func (s *Stock) Refill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.shelf {
		s.shelf[id] = fullShelf
	}
}
