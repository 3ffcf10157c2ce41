package main

import (
	"strings"
	"testing"
)

func TestPartitionsAreAddedByNumberOrUpToATotal(t *testing.T) {
	env, _, _ := testBroker(t)
	c := &cli{t, env}
	c.prints("topic create a -p 2")
	c.prints("topic create b -p 3")
	c.prints("topic add-partitions a b -n 2", "a      changed  partitions=4", "b      changed  partitions=5")
	c.prints("topic add-partitions a --to 6 --dry-run", "a      valid   partitions=6")
	c.prints("topic add-partitions a --to 6", "a      changed  partitions=6")
	c.prints("topic list", "a               6", "b               5")
	c.fails("topic add-partitions a --to 6", "INVALID_PARTITIONS")
	c.fails("topic add-partitions none -n 1", `"none"`)
	for _, bad := range []string{"topic add-partitions a", "topic add-partitions a -n 0", "topic add-partitions a --to -1", "topic add-partitions a -n 1 --to 2"} {
		c.run(2, "", bad)
	}
}

func TestTrimDeletesTheOldestRecordsOfEachPartition(t *testing.T) {
	env, _, _ := testBroker(t)
	c := &cli{t, env}
	c.prints("topic create t -p 2")
	c.run(0, strings.Repeat("0\tx\n1\tx\n", 10), `produce t -f '%p\t%v\n'`)
	c.prints("topic trim t -o 4 --dry-run", "t              0     0   4        4  would go")
	c.prints("consume t -p 0 -o start -n 1 -f '%o'", "0")
	c.prints("topic trim t -o 4", "t              0     0   4        4  trimmed", "t              1     0   4        4  trimmed")
	c.prints("topic trim t -p 1 -o -1", "t              1     4   9        5  trimmed")
	for command, want := range map[string]string{"consume t -p 0 -o start -n 1 -f '%o'": "4", "consume t -p 1 -o start -n 1 -f '%o'": "9"} {
		if out, _ := c.run(0, "", command); out != want {
			t.Errorf("%s: %q", command, out)
		}
	}
	c.prints("topic trim t -o @-1h", "4   4        0  trimmed") // all are younger
	c.prints("topic trim t -o end --format json", `"kind": "topic.trim"`, `"to": 10`)
	c.prints("topic trim t -o 99", "trimmed") // there is nothing behind the end to delete
	c.fails("topic trim none -o end", `"none"`)
	c.fails("topic trim t -p 7 -o end", "no partition 7")
	for _, bad := range []string{"topic trim t", "topic trim t -o soon", "topic trim t -o 1:2"} {
		c.run(2, "", bad)
	}
}

func TestJSONLinesGoInAsTheyComeOut(t *testing.T) {
	env, _, _ := testBroker(t)
	c := &cli{t, env}
	c.prints("topic create a -p 1")
	c.prints("topic create b -p 1")
	input := `{"key":"k1","value":"v1","timestamp":1767312000000,"headers":[{"key":"h","value":"x"},{"key":"n","value":null}]}` + "\n\n" +
		`{"key":"k2","value":{"a": [1,2]}}` + "\n" + `{"value_base64":"/w==","key":7}` + "\n" + `{"key":"gone","value":null}`
	c.run(0, input, "produce a -f json")
	first, _ := c.run(0, "", "consume a -o start -n 4 -f json")
	for _, want := range []string{
		`"timestamp":1767312000000,"key":"k1","value":"v1","headers":[{"key":"h","value":"x"},{"key":"n","value":null}]`,
		`"key":"k2","value":"{\"a\": [1,2]}"`, `"key":"7","value":null,"value_base64":"/w=="`, `"key":"gone","value":null}`,
	} {
		if !strings.Contains(first, want) {
			t.Errorf("%s is not in\n%s", want, first)
		}
	}
	c.run(0, first, "produce b -f json")
	if again, _ := c.run(0, "", "consume b -o start -n 4 -f json"); strings.ReplaceAll(again, `"topic":"b"`, `"topic":"a"`) != first {
		t.Errorf("copied it is\n%s, was\n%s", again, first)
	}
	if out, _ := c.run(0, "", "consume a -o start -e -k k2 -f '%o %v'"); out != `1 {"a": [1,2]}` {
		t.Errorf("one key: %q", out)
	}
	if out, _ := c.run(0, "", "consume a -o @2026-01-02:@2026-01-03 -e -f %k"); out != "k1" {
		t.Errorf("one day: %q", out)
	}
	for what, bad := range map[string]string{
		"not JSON": "{", "two on a line": `{"key":"a"} {"key":"b"}`, "a misspelt field": `{"kye":"a"}`, "bad base64": `{"value_base64":"?"}`, "a list": `[1]`,
	} {
		if _, errs := c.run(1, `{"key":"fine"}`+"\n"+bad+"\n", "produce b -f json"); !strings.Contains(errs, "line 2 of the input") {
			t.Errorf("%s: %q", what, errs)
		}
	}
}
