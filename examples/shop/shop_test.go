package main

import (
	"testing"
)

func TestSearchFindsByWord(t *testing.T) {
	found := Search(catalogue, " Earl ")
	if len(found) != 1 || found[0].ID != 3 {
		t.Fatalf("found %v", found)
	}
}

func TestSearchWithoutWordsFindsNothing(t *testing.T) {
	if found := Search(catalogue, "  "); len(found) != 0 {
		t.Fatalf("found %v", found)
	}
}

func TestCatalogueHasEachIDOnce(t *testing.T) {
	seen := map[int]bool{}
	for _, item := range catalogue {
		if seen[item.ID] || item.Price <= 0 || item.Name == "" {
			t.Errorf("item %+v", item)
		}
		seen[item.ID] = true
	}
}

func TestTakeTakesOne(t *testing.T) {
	stock := NewStock(catalogue)
	left, ok, err := stock.Take(2)
	if err != nil || !ok || left != fullShelf-1 {
		t.Fatalf("left %d, %v, %v", left, ok, err)
	}
}

func TestTakeFromAnEmptyShelf(t *testing.T) {
	stock := NewStock(catalogue[:1])
	for range fullShelf {
		if _, ok, err := stock.Take(1); !ok || err != nil {
			t.Fatal("empty too early")
		}
	}
	if _, ok, err := stock.Take(1); ok || err != nil {
		t.Fatalf("ok %v, %v", ok, err)
	}
	stock.Refill()
	if left, err := stock.Left(1); left != fullShelf || err != nil {
		t.Fatalf("left %d, %v", left, err)
	}
}

func TestUnknownItemHasNoShelf(t *testing.T) {
	if _, err := NewStock(catalogue).Left(99); err == nil {
		t.Fatal("no error")
	}
}
