package delivery

import (
	"encoding/json"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// deep copies through JSON, as a disk does: what is not written is lost.
func deep[T any](v T) T {
	var c T
	raw, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	if err != nil {
		panic(err)
	}
	return c
}

// given copies what is stored for whoever reads it. It has been through deep already, and is read thousands of times for
// each time it is written.
func given[T any](v T) T {
	return copyOf(reflect.ValueOf(&v).Elem()).Interface().(T)
}

// copyOf shares nothing with v that can be changed.
func copyOf(v reflect.Value) reflect.Value {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return v
		}
		c := reflect.New(v.Type().Elem())
		c.Elem().Set(copyOf(v.Elem()))
		return c
	case reflect.Slice:
		if v.IsNil() {
			return v
		}
		c := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		if flat(v.Type().Elem()) {
			reflect.Copy(c, v)
			return c
		}
		for i := range v.Len() {
			c.Index(i).Set(copyOf(v.Index(i)))
		}
		return c
	case reflect.Map:
		if v.IsNil() {
			return v
		}
		c := reflect.MakeMapWithSize(v.Type(), v.Len())
		for each := v.MapRange(); each.Next(); {
			c.SetMapIndex(each.Key(), copyOf(each.Value()))
		}
		return c
	case reflect.Struct:
		c := reflect.New(v.Type()).Elem()
		c.Set(v)
		for _, i := range deepFields(v.Type()) {
			c.Field(i).Set(copyOf(v.Field(i)))
		}
		return c
	case reflect.Interface:
		if v.IsNil() {
			return v
		}
		c := reflect.New(v.Type()).Elem()
		c.Set(copyOf(v.Elem()))
		return c
	default:
		return v
	}
}

var sharedFields sync.Map // of []int by reflect.Type

// deepFields lists the fields of a struct that an assignment does not copy. Times are values.
func deepFields(t reflect.Type) []int {
	if list, ok := sharedFields.Load(t); ok {
		return list.([]int)
	}
	var list []int
	for i := range t.NumField() {
		if !flat(t.Field(i).Type) && t != reflect.TypeFor[time.Time]() {
			list = append(list, i)
		}
	}
	sharedFields.Store(t, list)
	return list
}

// flat says that a value of this type is copied by an assignment.
func flat(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct:
		return len(deepFields(t)) == 0
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		return false
	default:
		return true
	}
}

// A reader that changes what it was given changes nothing that is stored.
func TestGivenIsACopy(t *testing.T) {
	now := time.Now()
	stored := domain.Delivery{App: "shop", Ended: &now, Gates: []domain.Gate{{Name: "freeze"}},
		Stages: []domain.StageRecord{{Name: domain.Build, Steps: []domain.StepRecord{{Verb: "start"}}}}}
	was := deep(stored)
	g := given(stored)
	if !reflect.DeepEqual(g, stored) {
		t.Fatalf("%+v\n%+v", g, stored)
	}
	g.Gates[0].Name, g.Stages[0].Steps[0].Verb, *g.Ended = "", "", time.Time{}
	if !reflect.DeepEqual(deep(stored), was) {
		t.Errorf("%+v\n%+v", stored, was)
	}
}
