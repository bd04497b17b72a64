package config

import "reflect"

// Decode reads another file that is written like belay.yaml into a struct that is tagged like File, as strictly: every finding
// at once, with its place. Only its keys and values are checked. Has reports whether the file writes a key.
func Decode(name string, src []byte, into any) (has func(path string) bool, findings []Finding) {
	p := newPlaces(name, src, Options{})
	w := &walker{places: &p, owner: name}
	if body, ok := w.syntax(src); ok && body != nil {
		w.decode(body, reflect.ValueOf(into).Elem(), "", field{})
	}
	return p.Has, p.findings()
}
