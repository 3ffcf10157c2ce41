package meta

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Command is one change of the cluster's state. The set is closed: only the types of this package
// implement it, and each has a golden file for every layout it ever had.
//
// On disk and on the wire a command is {"v":1,"type":"commit_tier","cmd":{...}}.
type Command interface {
	// kind is the name in JSON; it never changes.
	kind() string
	// apply decides and makes the change. It is deterministic and does no I/O. What it did to tx
	// before it refused is undone by the caller.
	apply(tx *tx) (int64, *CommandError)
}

// commandVersion is the layout of all commands so far. A change that an older broker would read
// wrongly gets a new number behind a feature level.
const commandVersion = 1

// The closed set. RegisterBroker is proposed by Node.Register only.
type (
	// RegisterBroker makes a new incarnation of a broker and gives its broker epoch.
	RegisterBroker struct {
		ClusterID   string `json:"cluster_id"`
		Broker      NodeID `json:"broker"`
		DirectoryID string `json:"directory_id"`
		Incarnation string `json:"incarnation"`
		// Clean says that the stop before was clean: nothing that was written without fdatasync is lost.
		Clean    bool   `json:"clean,omitempty"`
		Host     string `json:"host"`
		Port     int32  `json:"port"`
		Rack     string `json:"rack,omitempty"`
		Internal string `json:"internal,omitempty"`
	}

	// FenceBroker takes a broker out of every ISR and leadership.
	FenceBroker struct {
		Broker NodeID `json:"broker"`
		Epoch  int64  `json:"epoch"`
	}

	// UnfenceBroker lets a broker that was fenced by a false alarm lead again.
	UnfenceBroker struct {
		Broker NodeID `json:"broker"`
		Epoch  int64  `json:"epoch"`
	}

	// CreateTopic makes a topic. ID and replicas were chosen by the proposer, who has checked Configs.
	CreateTopic struct {
		Name       string            `json:"name"`
		TopicID    TopicID           `json:"topic_id"`
		Partitions [][]NodeID        `json:"partitions"` // replicas by partition, preferred leader first
		Configs    map[string]string `json:"configs,omitempty"`
	}

	// DeleteTopic moves a topic to the deleted topics. Its id stays until FinishDeleteTopic.
	DeleteTopic struct {
		TopicID TopicID `json:"topic_id"`
	}

	// FinishDeleteTopic forgets a deleted topic whose directories and objects are gone.
	FinishDeleteTopic struct {
		TopicID TopicID `json:"topic_id"`
	}

	// CreatePartitions adds partitions to a topic that has From of them.
	CreatePartitions struct {
		TopicID    TopicID    `json:"topic_id"`
		From       int32      `json:"from"`
		Partitions [][]NodeID `json:"partitions"`
	}

	// AlterConfigs changes the configs of one resource. The proposer has resolved every operation
	// to Set or Delete and checked the outcome.
	AlterConfigs struct {
		Resource Resource `json:"resource"`
		// TopicID is the topic if Resource is ResourceTopic, Broker the broker if ResourceBroker.
		TopicID TopicID           `json:"topic_id,omitzero"`
		Broker  NodeID            `json:"broker,omitempty"`
		Set     map[string]string `json:"set,omitempty"`
		Delete  []string          `json:"delete,omitempty"`
		// Compare holds the values that the proposer saw (null: not set). If one differs the command
		// is refused with ErrConfigChanged and the proposer computes it anew.
		Compare map[string]*string `json:"compare,omitempty"`
	}

	// CommitTier replaces the manifest of a partition (DESIGN section 8.2). The proposer must lead it.
	CommitTier struct {
		TopicID     TopicID `json:"topic_id"`
		Partition   int32   `json:"partition"`
		LeaderEpoch int32   `json:"leader_epoch"`
		// BrokerEpoch is that of the incarnation which made the upload.
		BrokerEpoch int64  `json:"broker_epoch"`
		Prev        string `json:"prev"`
		Name        string `json:"name"`
		CRC         uint32 `json:"crc32c"`
		LogStart    int64  `json:"log_start"`
		TieredEnd   int64  `json:"tiered_end"`
		LastEpoch   int32  `json:"last_epoch"`
		Bytes       int64  `json:"bytes"`
	}

	// SetLogStart moves the start of a partition's log (DeleteRecords, local retention). What is
	// pending on a broker goes as one Propose. Refused with ErrGoesBack, and Value the LogStart that stands, below it.
	SetLogStart struct {
		TopicID     TopicID `json:"topic_id"`
		Partition   int32   `json:"partition"`
		LeaderEpoch int32   `json:"leader_epoch"`
		LogStart    int64   `json:"log_start"`
	}

	// AllocProducerIDs gives the next Count producer ids; Value is the first.
	AllocProducerIDs struct {
		Count int64 `json:"count"`
	}

	// AlterPartition sets the ISR, and the leader if Leader is not 0. The proposer leads the
	// partition, or is the controller moving its leader.
	AlterPartition struct {
		TopicID        TopicID     `json:"topic_id"`
		Partition      int32       `json:"partition"`
		LeaderEpoch    int32       `json:"leader_epoch"`
		PartitionEpoch int32       `json:"partition_epoch"`
		ISR            []ISRMember `json:"isr"`
		Leader         NodeID      `json:"leader,omitempty"`
	}

	// SetFeatureLevel raises the level of formats and commands that every broker understands.
	SetFeatureLevel struct {
		Level int32 `json:"level"`
	}
)

// ISRMember is a proposed ISR member and the broker epoch under which it caught up.
type ISRMember struct {
	Broker NodeID `json:"broker"`
	Epoch  int64  `json:"epoch"`
}

// Resource is what AlterConfigs changes.
type Resource string

// The resources that have configs.
const (
	ResourceTopic   Resource = "topic"
	ResourceBroker  Resource = "broker"
	ResourceCluster Resource = "cluster"
)

func (*RegisterBroker) kind() string    { return "register_broker" }
func (*FenceBroker) kind() string       { return "fence_broker" }
func (*UnfenceBroker) kind() string     { return "unfence_broker" }
func (*CreateTopic) kind() string       { return "create_topic" }
func (*DeleteTopic) kind() string       { return "delete_topic" }
func (*FinishDeleteTopic) kind() string { return "finish_delete_topic" }
func (*CreatePartitions) kind() string  { return "create_partitions" }
func (*AlterConfigs) kind() string      { return "alter_configs" }
func (*CommitTier) kind() string        { return "commit_tier" }
func (*SetLogStart) kind() string       { return "set_log_start" }
func (*AllocProducerIDs) kind() string  { return "alloc_producer_ids" }
func (*AlterPartition) kind() string    { return "alter_partition" }
func (*SetFeatureLevel) kind() string   { return "feature_level" }

// newCommand makes an empty command of each kind; it is the closed set in one table.
var newCommand = map[string]func() Command{
	"register_broker":     func() Command { return new(RegisterBroker) },
	"fence_broker":        func() Command { return new(FenceBroker) },
	"unfence_broker":      func() Command { return new(UnfenceBroker) },
	"create_topic":        func() Command { return new(CreateTopic) },
	"delete_topic":        func() Command { return new(DeleteTopic) },
	"finish_delete_topic": func() Command { return new(FinishDeleteTopic) },
	"create_partitions":   func() Command { return new(CreatePartitions) },
	"alter_configs":       func() Command { return new(AlterConfigs) },
	"commit_tier":         func() Command { return new(CommitTier) },
	"set_log_start":       func() Command { return new(SetLogStart) },
	"alloc_producer_ids":  func() Command { return new(AllocProducerIDs) },
	"alter_partition":     func() Command { return new(AlterPartition) },
	"feature_level":       func() Command { return new(SetFeatureLevel) },
	"alter_client_quota":  func() Command { return new(AlterClientQuota) },
}

// commandJSON is the envelope of one command.
type commandJSON struct {
	V    int             `json:"v"`
	Type string          `json:"type"`
	Cmd  json.RawMessage `json:"cmd"`
}

func encodeCommand(c Command) (commandJSON, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return commandJSON{}, fmt.Errorf("encode command %s: %w", c.kind(), err)
	}
	return commandJSON{commandVersion, c.kind(), b}, nil
}

func decodeCommand(doc commandJSON) (Command, error) {
	if doc.V != commandVersion {
		return nil, fmt.Errorf("command version %d, this program knows %d", doc.V, commandVersion)
	}
	make, ok := newCommand[doc.Type]
	if !ok {
		return nil, fmt.Errorf("unknown command %.40q", doc.Type)
	}
	c := make()
	if err := decodeStrict(doc.Cmd, c); err != nil {
		return nil, fmt.Errorf("decode command %s: %w", doc.Type, err)
	}
	return c, nil
}

// proposal is what one raft entry carries: commands of one broker under one sequence.
type proposal struct {
	// Broker and Epoch are the proposer; Epoch is 0 in a registration, which has none yet.
	Broker NodeID
	Epoch  int64
	// Sequence counts the proposals of an incarnation from 1. A retry has the same one.
	Sequence uint64
	// TimeMS is the proposer's wall clock.
	TimeMS   int64
	Commands []Command
}

const (
	// MaxProposalBytes bounds a proposal's encoding. It is below Badger's 1 MiB value threshold:
	// larger values would go to the value log, whose sync errors Badger logs and does not return.
	MaxProposalBytes = 1_000_000
	// MaxCommands bounds the commands of one proposal, and with it an entry of the result window.
	MaxCommands = 1024
)

type proposalJSON struct {
	V        int           `json:"v"`
	Broker   NodeID        `json:"broker"`
	Epoch    int64         `json:"epoch"`
	Sequence uint64        `json:"seq"`
	TimeMS   int64         `json:"time_ms"`
	Commands []commandJSON `json:"commands"`
}

func (p *proposal) encode() ([]byte, error) {
	if len(p.Commands) > MaxCommands {
		return nil, fmt.Errorf("encode proposal of %d commands, at most %d: %w", len(p.Commands), MaxCommands, ErrTooLarge)
	}
	doc := proposalJSON{commandVersion, p.Broker, p.Epoch, p.Sequence, p.TimeMS, make([]commandJSON, 0, len(p.Commands))}
	for _, c := range p.Commands {
		enc, err := encodeCommand(c)
		if err != nil {
			return nil, err
		}
		doc.Commands = append(doc.Commands, enc)
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode proposal: %w", err)
	}
	if len(b) > MaxProposalBytes {
		return nil, fmt.Errorf("encode proposal of %d bytes, at most %d: %w", len(b), MaxProposalBytes, ErrTooLarge)
	}
	return b, nil
}

func decodeProposal(b []byte) (*proposal, error) {
	if len(b) > MaxProposalBytes {
		return nil, fmt.Errorf("decode proposal of %d bytes: %w", len(b), ErrTooLarge)
	}
	var doc proposalJSON
	if err := decodeStrict(b, &doc); err != nil {
		return nil, fmt.Errorf("decode proposal: %w", err)
	}
	if doc.V != commandVersion {
		return nil, fmt.Errorf("decode proposal: version %d, this program knows %d", doc.V, commandVersion)
	}
	if len(doc.Commands) == 0 || len(doc.Commands) > MaxCommands {
		return nil, errors.New("decode proposal: no command or too many")
	}
	p := &proposal{doc.Broker, doc.Epoch, doc.Sequence, doc.TimeMS, make([]Command, 0, len(doc.Commands))}
	for i, enc := range doc.Commands {
		c, err := decodeCommand(enc)
		if err != nil {
			return nil, fmt.Errorf("decode proposal: command %d: %w", i, err)
		}
		p.Commands = append(p.Commands, c)
	}
	return p, nil
}
