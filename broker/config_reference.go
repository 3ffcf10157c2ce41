package broker

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"

	"varve/broker/meta"
)

// WriteReference writes configs/reference.yaml: every key of the broker with unit, default,
// difference from Kafka and one line of text, and after them, commented, the keys of topics. The
// file is itself a valid configuration that changes nothing; a test loads it.
func WriteReference(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprint(b, referenceHead)
	for _, t := range themes {
		fmt.Fprintf(b, "\n## %s\n", t.title)
		for i := range t.keys {
			k := keys[keyIndex[t.keys[i].Name]]
			writeKey(b, &k)
		}
	}
	writeTopicKeys(b)
	return b.Flush()
}

const referenceHead = `# Every configuration key of Varve with its default, written by "go generate ./cmd/varve".
# One flat map of dotted keys. Durations are milliseconds or 24h, sizes are bytes or 512MiB.
# A key is set by, strongest first: its flag, -X key=value, its environment variable (VARVE_ and
# the key in capitals, _ for .), this file (-c FILE), its default. "varve config explain KEY"
# prints which one won, "varve config validate -c FILE" checks a file.
`

func writeKey(w io.Writer, k *Key) {
	fmt.Fprintf(w, "\n# %s\n# %s\n", k.Doc, strings.Join(k.Facts(), "; "))
	if k.Difference != "" {
		fmt.Fprintf(w, "# differs from Kafka: %s\n", k.Difference)
	}
	fmt.Fprintf(w, "%s: %s\n", k.Name, yamlScalar(k.Default))
}

// Facts are the short properties of a key: type and unit, bounds, flag, and what it changes.
func (k *Key) Facts() []string {
	facts := []string{k.Type.String()}
	if unit := k.Type.Unit(); unit != "" {
		facts[0] += " in " + unit
	}
	switch {
	case len(k.Values) > 0:
		facts = append(facts, "one of "+strings.Join(k.Values, " | "))
	case k.Max != 0:
		facts = append(facts, k.Bounds())
	}
	if k.Flag != "" {
		facts = append(facts, "--"+k.Flag)
	}
	if k.Topic != "" {
		facts = append(facts, "default of "+k.Topic)
	}
	if k.Dynamic {
		facts = append(facts, "may change at run time")
	}
	if k.Kafka {
		facts = append(facts, "Kafka's")
	}
	return facts
}

// yamlScalar quotes what YAML would read as something other than the same text.
func yamlScalar(text string) string {
	if text == "" || strings.ContainsAny(text, ":#{}[]&*!|>'\"%@`, ") {
		return strconv.Quote(text)
	}
	return text
}

const topicHead = `
## Keys of topics

# These are set with a topic (varve topic create NAME -c KEY=VALUE, varve topic alter) and not in
# this file, which is why they stand behind "#". A broker key above that says "default of" one of
# them sets it for all topics that do not.
`

// writeTopicKeys lists the keys of topics from the table in meta.
func writeTopicKeys(w io.Writer) {
	fmt.Fprint(w, topicHead)
	for _, k := range meta.TopicConfigKeys() {
		facts := []string{topicTypes[k.Type]}
		if unit := topicUnit(k.Name); unit != "" {
			facts[0] += " in " + unit
		}
		if k.Valid != "" {
			facts = append(facts, k.Valid)
		}
		if !strings.HasPrefix(k.Name, "varve.") && k.Name != "write.caching" {
			facts = append(facts, "Kafka's")
		}
		fmt.Fprintf(w, "\n# %s\n# %s\n", k.Doc(), strings.Join(facts, "; "))
		if k.KafkaDefault != "" {
			fmt.Fprintf(w, "# differs from Kafka: Kafka's default is %s\n", k.KafkaDefault)
		}
		fmt.Fprintf(w, "#%s: %s\n", k.Name, yamlScalar(k.Default))
	}
}

var topicTypes = map[meta.ConfigType]string{
	meta.ConfigBoolean: "boolean", meta.ConfigString: "string", meta.ConfigInt: "number", meta.ConfigLong: "number",
	meta.ConfigDouble: "fraction", meta.ConfigList: "list",
}

func topicUnit(name string) string {
	switch {
	case strings.HasSuffix(name, ".ms"):
		return TypeDuration.Unit()
	case strings.HasSuffix(name, ".bytes"):
		return TypeBytes.Unit()
	default:
		return ""
	}
}
