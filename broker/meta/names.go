package meta

import (
	"errors"
	"fmt"
)

// maxTopicName is Kafka's limit: name, partition and suffix must fit a 255-byte file name there.
const maxTopicName = 249

// ValidateTopicName applies Kafka's rules: 1 to 249 of ASCII letters, digits, '.', '_' and '-',
// and neither "." nor "..".
func ValidateTopicName(name string) error {
	switch {
	case name == "":
		return errors.New("topic name is empty")
	case name == "." || name == "..":
		return fmt.Errorf("topic name must not be %q", name)
	case len(name) > maxTopicName:
		return fmt.Errorf("topic name has %d characters, at most %d are allowed", len(name), maxTopicName)
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return fmt.Errorf("topic name %q contains %q; allowed are ASCII letters, digits, '.', '_' and '-'", name, name[i:i+1])
		}
	}
	return nil
}
