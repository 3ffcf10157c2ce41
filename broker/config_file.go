package broker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFaults ends the reading of a file that is no configuration at all; a nearest name costs some
// 0.1 ms, so it also bounds the time.
const maxFaults = 50

// ParseFile reads a flat YAML map of dotted keys. Every unknown key, nested map and doubled key
// is a fault with its line; values are checked later, with those of the other sources.
func ParseFile(name string, text []byte) ([]Setting, Faults) {
	root, fault := decodeMap(name, text)
	if fault != nil {
		return nil, Faults{*fault}
	}
	if root == nil {
		return nil, nil
	}
	var all []Setting
	var faults Faults
	seen := make(map[string]int)
	for i := 0; i+1 < len(root.Content); i += 2 {
		keyNode, valueNode := root.Content[i], root.Content[i+1]
		where := name + ":" + strconv.Itoa(keyNode.Line)
		if len(faults) >= maxFaults {
			faults = append(faults, Fault{Where: where, Problem: "too many faults; the rest was not looked at"})
			break
		}
		key := keyNode.Value
		line, twice := seen[key]
		seen[key] = keyNode.Line
		_, known := keyIndex[key]
		switch {
		case keyNode.Kind != yaml.ScalarNode:
			faults = append(faults, Fault{Where: where, Problem: "a key must be plain text"})
			continue
		case twice:
			faults = append(faults, Fault{Key: key, Where: where, Problem: fmt.Sprintf("already set on line %d", line)})
			continue
		case valueNode.Kind == yaml.MappingNode && (!known || strings.Contains(firstKey(valueNode), ".")):
			faults = append(faults, Fault{Key: clip(key), Where: where, Problem: fmt.Sprintf("keys are not nested; write %s.%s: ...", clip(key), clip(firstKey(valueNode)))})
			continue
		case !known:
			faults = append(faults, unknownKey(key, where))
			continue
		}
		value, err := valueText(valueNode)
		if err != nil {
			faults = append(faults, Fault{Key: key, Where: where, Problem: err.Error()})
			continue
		}
		all = append(all, Setting{key, value, Origin{OriginFile, where}})
	}
	return all, faults
}

// decodeMap gives the one mapping of a file, or nil for a file without any value.
func decodeMap(name string, text []byte) (*yaml.Node, *Fault) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, yamlFault(name, err)
	}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return nil, nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, &Fault{Where: name + ":" + strconv.Itoa(root.Line), Problem: errFile.Error()}
	}
	var second yaml.Node
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, &Fault{Where: name, Problem: "more than one YAML document"}
	}
	return root, nil
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): (.*)$`)

func yamlFault(name string, err error) *Fault {
	text := strings.ReplaceAll(err.Error(), "\n", " ")
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		return &Fault{Where: name + ":" + m[1], Problem: m[2]}
	}
	return &Fault{Where: name, Problem: strings.TrimPrefix(text, "yaml: ")}
}

func firstKey(n *yaml.Node) string {
	if len(n.Content) == 0 {
		return "key"
	}
	return n.Content[0].Value
}

// valueText is the text of a scalar, or of a list of scalars joined by commas.
func valueText(n *yaml.Node) (string, error) {
	switch n.Kind {
	case yaml.ScalarNode:
		if n.Tag == "!!null" {
			return "", errors.New(`no value; write "" for an empty one`)
		}
		return n.Value, nil
	case yaml.SequenceNode:
		var parts []string
		for _, item := range n.Content {
			if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
				return "", errors.New("a list may hold only plain values")
			}
			parts = append(parts, item.Value)
		}
		return strings.Join(parts, ","), nil
	case yaml.AliasNode:
		return "", errors.New("aliases are not supported")
	default:
		return "", errors.New("a value must be plain text or a list")
	}
}

// unknownKey says what the nearest known key is, and knows the names people bring along.
func unknownKey(name, where string) Fault {
	problem := "no such key"
	if moved, ok := otherNames[name]; ok {
		problem += "; here it is " + moved
	} else if k, ok := keyOfTopicKey(name); ok {
		problem += " of the broker; it is a key of topics, and " + k + " is its default for all"
	} else if near, distance := nearestKey(name); distance <= max(2, len(name)/2) {
		problem += "; did you mean " + near + "?"
	} else {
		problem += "; configs/reference.yaml lists them all"
	}
	return Fault{Key: clip(name), Where: where, Problem: problem}
}

// otherNames are Kafka's names of what has another name here.
var otherNames = map[string]string{
	"broker.id":             "node.id",
	"broker.rack":           "rack",
	"listeners":             "listen",
	"advertised.listeners":  "advertised.listen",
	"log.dir":               "data.dir",
	"log.dirs":              "data.dir",
	"log.retention.hours":   "log.retention.ms (durations such as 24h)",
	"log.retention.minutes": "log.retention.ms (durations such as 30m)",
	"log.roll.hours":        "log.roll.ms (durations such as 24h)",
}

func keyOfTopicKey(topicKey string) (string, bool) {
	for i := range keys {
		if keys[i].Topic == topicKey && keys[i].Name != topicKey {
			return keys[i].Name, true
		}
	}
	return "", false
}

// nearestKey is the known key with the smallest edit distance, the first in the table of equals.
func nearestKey(name string) (string, int) {
	const longest = 128 // distance costs the product of both lengths
	if len(name) > longest {
		return keys[0].Name, len(name)
	}
	name = strings.ToLower(strings.NewReplacer("_", ".", "-", ".").Replace(name))
	best, bestDistance := "", 1<<30
	for i := range keys {
		if d := editDistance(name, keys[i].Name); d < bestDistance {
			best, bestDistance = keys[i].Name, d
		}
	}
	return best, bestDistance
}

// editDistance is Levenshtein's, in bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// sort brings faults of one file into line order and keeps the rest as found.
func (f Faults) sort() {
	slices.SortStableFunc(f, func(a, b Fault) int {
		fileA, lineA := splitLine(a.Where)
		fileB, lineB := splitLine(b.Where)
		if fileA != fileB {
			return 0
		}
		return lineA - lineB
	})
}

func splitLine(where string) (string, int) {
	i := strings.LastIndexByte(where, ':')
	if i < 0 {
		return where, 0
	}
	line, err := strconv.Atoi(where[i+1:])
	if err != nil {
		return where, 0
	}
	return where[:i], line
}

// UnknownKey is the line that refuses a key, with the nearest known one.
func UnknownKey(name string) string { return unknownKey(name, "").String() }
