package main

import "strings"

// Item is one thing on offer. Prices are in cents.
type Item struct {
	ID    int    `json:"id"`
	Name  string `json:"name"`
	Price int    `json:"price"`
}

var catalogue = []Item{
	{1, "Assam tea", 890}, {2, "Darjeeling tea", 1290}, {3, "Earl Grey tea", 790}, {4, "Sencha tea", 1150},
	{5, "Genmaicha tea", 990}, {6, "Oolong tea", 1490}, {7, "Rooibos", 650}, {8, "Peppermint", 490},
	{9, "Chamomile", 520}, {10, "Masala chai", 840}, {11, "Lapsang Souchong tea", 1190}, {12, "White tea", 1890},
	{13, "Matcha", 2490}, {14, "Gunpowder tea", 690}, {15, "Jasmine tea", 930}, {16, "Pu-erh tea", 1590},
	{17, "Tea pot", 3490}, {18, "Tea cup", 1290}, {19, "Tea strainer", 590}, {20, "Tea tin", 890},
}

// Search returns the items whose name contains words, in the order of the catalogue. No words find nothing.
func Search(items []Item, words string) []Item {
	found := []Item{}
	words = strings.ToLower(strings.TrimSpace(words))
	if words == "" {
		return found
	}
	for _, item := range items {
		if strings.Contains(strings.ToLower(item.Name), words) {
			found = append(found, item)
		}
	}
	return found
}
