package scrape

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// The limits of one scrape. An app beyond them is refused whole, with a message: a part of the series would be a wrong sum.
const (
	maxBody = 8 << 20  // bytes read
	maxLine = 16 << 10 // bytes of one line
	maxKept = 1 << 20  // bytes of the lines that are wanted
)

// sample is one value of one series.
type sample struct {
	name   string
	labels map[string]string
	value  float64
}

// parse reads the text format. Lines of metrics that nobody wants are dropped before they cost memory; a nil want keeps
// all. More than most series, or more than the limits, are an error.
func parse(r io.Reader, want map[string]bool, most int) ([]sample, error) {
	kept, err := filter(r, want, most)
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(kept)
	if err != nil {
		return nil, fmt.Errorf("not the Prometheus text format: %w", err)
	}
	var list []sample
	for name, family := range families {
		for _, m := range family.GetMetric() {
			labels := make(map[string]string, len(m.GetLabel()))
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			list = append(list, sample{name, labels, m.GetUntyped().GetValue()})
		}
	}
	return list, nil
}

// filter copies the wanted lines, within the limits.
func filter(r io.Reader, want map[string]bool, most int) (*bytes.Buffer, error) {
	limited := &io.LimitedReader{R: r, N: maxBody + 1}
	lines := bufio.NewReaderSize(limited, maxLine)
	kept := &bytes.Buffer{}
	samples := 0
	for {
		line, err := lines.ReadSlice('\n')
		end := errors.Is(err, io.EOF)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("a line above %d bytes", maxLine)
		case limited.N <= 0:
			return nil, fmt.Errorf("above %d bytes", maxBody)
		case err != nil && !end:
			return nil, fmt.Errorf("broke off: %w", err)
		}
		if name := nameOf(line); name != "" && wanted(want, name) {
			samples++
			kept.Write(line)
			if end {
				kept.WriteByte('\n') // a last line without its end
			}
		}
		if samples > most || kept.Len() > maxKept {
			return nil, fmt.Errorf("above %d series or %d bytes of them", most, maxKept)
		}
		if end {
			return kept, nil
		}
	}
}

// nameOf returns the metric that a line is about, "" for a comment. All comments are dropped, TYPE among them: so each line
// stays the series that it is, and the buckets of a histogram are not grouped only to be taken apart again.
func nameOf(line []byte) string {
	text := strings.TrimLeft(string(line[:min(len(line), 512)]), " \t")
	if i := strings.IndexAny(text, "#{ \t\r\n"); i >= 0 {
		text = text[:i]
	}
	if strings.HasPrefix(text, reserved) {
		return ""
	}
	return text
}

// wanted also takes the parts of a histogram or summary by their family's name.
func wanted(want map[string]bool, name string) bool {
	if want == nil || want[name] {
		return true
	}
	for _, suffix := range [...]string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(name, suffix); ok && want[base] {
			return true
		}
	}
	return false
}
