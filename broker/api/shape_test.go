package api

import (
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fill puts n elements into every array of a request, and something into every pointer.
func fill(v reflect.Value, n int) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(v.Index(i), n)
		}
	case reflect.String:
		v.SetString("text")
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() && v.Type().Field(i).Name != "Version" {
				fill(f, n)
			}
		}
	default: // numbers and booleans stay zero
	}
}

func TestShapesAreTheRequestsThatKmsgWrites(t *testing.T) {
	a := &API{}
	for key, e := range a.newTable() {
		if e.hot != nil {
			continue
		}
		for v := e.flexible; v <= e.max; v++ {
			for n := range 3 {
				req := kmsg.RequestForKey(key)
				if n > 0 {
					fill(reflect.ValueOf(req).Elem(), n)
				}
				req.SetVersion(v)
				body := req.AppendTo(nil)
				if err := checkShape(key, v, body); err != nil {
					t.Errorf("%s v%d with %d elements: %v", kmsg.NameForKey(key), v, n, err)
				}
				for cut := range body {
					if checkShape(key, v, body[:cut]) == nil {
						t.Errorf("%s v%d with %d elements: cut at %d of %d is taken as whole", kmsg.NameForKey(key), v, n, cut, len(body))
					}
				}
			}
		}
	}
}

// FuzzShapes: whatever the bytes say, neither the walk nor what kmsg does behind it panics or runs on.
func FuzzShapes(f *testing.F) {
	f.Add(int16(19), []byte{2, 2, 'a', 0, 0, 0, 1, 0, 1, 1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 1, 0, 0})
	f.Add(int16(3), []byte{0xff, 0xff, 0xff, 0xff, 0x0f})
	table := (&API{}).newTable()
	f.Fuzz(func(t *testing.T, key int16, body []byte) {
		e, ok := table[key]
		if !ok || e.hot != nil {
			return
		}
		for v := e.flexible; v <= e.max; v++ {
			if checkShape(key, v, body) != nil {
				continue
			}
			req := kmsg.RequestForKey(key)
			req.SetVersion(v)
			_ = req.ReadFrom(body) // refused or not: it must come back
		}
	})
}
