package domain

import "testing"

func TestQuantities(t *testing.T) {
	for _, c := range []struct {
		v          float64
		unit, want string
	}{
		{3.14159, "", "3.14"}, {0.00042, "€", "0.00042 €"}, {12345.6, "", "12,345"}, {220_000_000, "bytes", "210 MiB"}, {512, "bytes", "512 bytes"},
		{-0.5, "s", "-0.5 s"}, {0, "cores", "0 cores"},
	} {
		if got := Quantity(c.v, c.unit); got != c.want {
			t.Errorf("%v %s is %q, not %q", c.v, c.unit, got, c.want)
		}
	}
}
