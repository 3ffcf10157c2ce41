package meta

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
)

// NodeID is a broker's id: at least 1, given by the operator. NoNode stands for none, as in Kafka.
type NodeID = int32

// NoNode is the id that means nobody: a partition without leader, a cluster without controller.
const NoNode NodeID = -1

// TopicID is the id of a topic for all its life. The zero value names no topic (KIP-516).
type TopicID [16]byte

// idTextLen is the length of 16 bytes in base64url without padding.
const idTextLen = 22

// metadataTopicID is the id that KIP-516 reserves for KRaft's own metadata topic.
var metadataTopicID = TopicID{15: 1}

// String is Kafka's text form: 22 characters of unpadded base64url.
func (id TopicID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// IsZero tells whether id names no topic.
func (id TopicID) IsZero() bool { return id == TopicID{} }

// MarshalText makes an id a string in JSON.
func (id TopicID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is the reverse of MarshalText.
func (id *TopicID) UnmarshalText(b []byte) error {
	parsed, err := ParseTopicID(string(b))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// ParseTopicID reads the text form. Only the form that String prints is accepted.
func ParseTopicID(s string) (TopicID, error) {
	var id TopicID
	if len(s) != idTextLen {
		return id, fmt.Errorf("parse topic id %.40q: want %d characters", s, idTextLen)
	}
	// Strict refuses non-zero trailing bits: one id has one text.
	if _, err := base64.RawURLEncoding.Strict().Decode(id[:], []byte(s)); err != nil {
		return TopicID{}, fmt.Errorf("parse topic id %q: %w", s, err)
	}
	return id, nil
}

// NewTopicID mints a random topic id. It is never zero, never KRaft's reserved id, and its text
// never starts with '-', which command lines would take for a flag.
func NewTopicID() (TopicID, error) { return newTopicID(rand.Reader) }

func newTopicID(random io.Reader) (TopicID, error) {
	for {
		var id TopicID
		if _, err := io.ReadFull(random, id[:]); err != nil {
			return TopicID{}, fmt.Errorf("mint topic id: %w", err)
		}
		id[6] = id[6]&0x0f | 0x40 // RFC 9562 version 4, as Kafka's Uuid.randomUuid makes them
		id[8] = id[8]&0x3f | 0x80
		if !id.IsZero() && id != metadataTopicID && id.String()[0] != '-' {
			return id, nil
		}
	}
}

// newIDText mints the text of a random id: cluster ids, directory ids, incarnations.
func newIDText() (string, error) {
	id, err := NewTopicID()
	return id.String(), err
}

// validIDText tells whether s has the form that newIDText gives.
func validIDText(s string) bool {
	_, err := ParseTopicID(s)
	return err == nil
}
