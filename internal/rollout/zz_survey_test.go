package rollout

import (
	"fmt"
	"regexp"
	"testing"

	"pgregory.net/rapid"
)

func TestZZSurvey(t *testing.T) {
	n, ok := map[string]int{}, 0
	ex := map[string]string{}
	re := regexp.MustCompile(`[0-9.]+(ms|s|m|h)?`)
	rapid.Check(t, func(rt *rapid.T) {
		c := courses(rt)
		if wrong, _ := crashed(t, c); wrong != nil {
			k := re.ReplaceAllString(fmt.Sprint(wrong), "#")
			if len(k) > 90 {
				k = k[:90]
			}
			n[k]++
			e := fmt.Sprintf("%+v: %v", c, wrong)
			if ex[k] == "" || len(e) < len(ex[k]) {
				ex[k] = e
			}
		} else {
			ok++
		}
	})
	for k, v := range n {
		t.Logf("%d × %s\n      %s", v, k, ex[k])
	}
	t.Logf("ok %d", ok)
}
