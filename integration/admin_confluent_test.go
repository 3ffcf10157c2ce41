package integration

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"varve/integration/harness"
)

// confluentAdmin is the admin client of librdkafka against the shared broker.
func confluentAdmin(t *testing.T) (*kafka.AdminClient, context.Context) {
	t.Helper()
	a, err := kafka.NewAdminClient(&kafka.ConfigMap{"bootstrap.servers": sharedBroker(t).Addr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	ctx, cancel := context.WithTimeout(t.Context(), harness.Late)
	t.Cleanup(cancel)
	return a, ctx
}

// wantCode fails unless err is a Kafka error of that code.
func wantCode(t *testing.T, what string, err error, code kafka.ErrorCode) {
	t.Helper()
	var k kafka.Error
	if !errors.As(err, &k) || k.Code() != code {
		t.Errorf("%s: %v, want code %v", what, err, code)
	}
}

func TestConfluentAdminManagesTopics(t *testing.T) {
	a, ctx := confluentAdmin(t)
	topic := "confluent-admin"
	made, err := a.CreateTopics(ctx, []kafka.TopicSpecification{
		{Topic: topic, NumPartitions: 2, ReplicationFactor: 1, Config: map[string]string{"retention.ms": "600000"}},
		{Topic: "bad#name", NumPartitions: 1, ReplicationFactor: 1},
		{Topic: "confluent-two-copies", NumPartitions: 1, ReplicationFactor: 2},
	})
	if err != nil || made[0].Error.Code() != kafka.ErrNoError {
		t.Fatalf("create: %v %+v", err, made)
	}
	wantCode(t, "a bad name", made[1].Error, kafka.ErrTopicException)
	wantCode(t, "two copies", made[2].Error, kafka.ErrInvalidReplicationFactor)
	more, err := a.CreatePartitions(ctx, []kafka.PartitionsSpecification{{Topic: topic, IncreaseTo: 3}})
	if err != nil || more[0].Error.Code() != kafka.ErrNoError {
		t.Errorf("create partitions: %v %+v", err, more)
	}
	described, err := a.DescribeTopics(ctx, kafka.NewTopicCollectionOfTopicNames([]string{topic}), kafka.SetAdminOptionIncludeAuthorizedOperations(true))
	if err != nil || len(described.TopicDescriptions) != 1 || len(described.TopicDescriptions[0].Partitions) != 3 ||
		len(described.TopicDescriptions[0].AuthorizedOperations) == 0 {
		t.Errorf("describe topics: %v %+v", err, described)
	}
	parts := []kafka.TopicPartition{{Topic: &topic, Partition: 0}}
	_, err = a.ElectLeaders(ctx, kafka.NewElectLeadersRequest(kafka.ElectionTypePreferred, parts))
	elected, err2 := a.ElectLeaders(ctx, kafka.NewElectLeadersRequest(kafka.ElectionTypeUnclean, parts))
	if err != nil || err2 != nil || len(elected.TopicPartitions) != 1 {
		t.Errorf("elect leaders: %v, %v, %+v", err, err2, elected)
	} else {
		wantCode(t, "elect leaders", elected.TopicPartitions[0].Error, kafka.ErrElectionNotNeeded)
	}
	offsets, err := a.ListOffsets(ctx, map[kafka.TopicPartition]kafka.OffsetSpec{parts[0]: kafka.LatestOffsetSpec})
	if err != nil || len(offsets.ResultInfos) != 1 {
		t.Errorf("list offsets: %v %+v", err, offsets)
	}
	trimmed, err := a.DeleteRecords(ctx, []kafka.TopicPartition{{Topic: &topic, Partition: 0, Offset: 0}})
	if err != nil || len(trimmed.DeleteRecordsResults) != 1 || trimmed.DeleteRecordsResults[0].TopicPartition.Error != nil {
		t.Errorf("delete records: %v %+v", err, trimmed)
	}
	gone, err := a.DeleteTopics(ctx, []string{topic, "confluent-none"})
	if err != nil || gone[0].Error.Code() != kafka.ErrNoError {
		t.Errorf("delete: %v %+v", err, gone)
	}
	wantCode(t, "a topic that is not there", gone[1].Error, kafka.ErrUnknownTopicOrPart)
}

func TestConfluentAdminReadsAndSetsConfigs(t *testing.T) {
	a, ctx := confluentAdmin(t)
	topic := "confluent-configs"
	if made, err := a.CreateTopics(ctx, []kafka.TopicSpecification{{Topic: topic, NumPartitions: 1, ReplicationFactor: 1}}); err != nil || made[0].Error.Code() != kafka.ErrNoError {
		t.Fatalf("create: %v %+v", err, made)
	}
	of := func(kind kafka.ResourceType, name, key string) kafka.ConfigEntryResult {
		t.Helper()
		r, err := a.DescribeConfigs(ctx, []kafka.ConfigResource{{Type: kind, Name: name}})
		if err != nil || r[0].Error.Code() != kafka.ErrNoError {
			t.Fatalf("describe %s: %v %+v", name, err, r)
		}
		return r[0].Config[key]
	}
	alter := func(kind kafka.ResourceType, name, key, value string, op kafka.AlterConfigOpType) kafka.Error {
		t.Helper()
		r, err := a.IncrementalAlterConfigs(ctx, []kafka.ConfigResource{{Type: kind, Name: name, Config: []kafka.ConfigEntry{{Name: key, Value: value, IncrementalOperation: op}}}})
		if err != nil {
			t.Fatalf("alter %s of %s: %v", key, name, err)
		}
		return r[0].Error
	}
	set, remove := kafka.AlterConfigOpTypeSet, kafka.AlterConfigOpTypeDelete
	if err := alter(kafka.ResourceTopic, topic, "min.cleanable.dirty.ratio", "0.25", set); err.Code() != kafka.ErrNoError {
		t.Error(err)
	}
	if c := of(kafka.ResourceTopic, topic, "min.cleanable.dirty.ratio"); c.Value != "0.25" || c.Source != kafka.ConfigSourceDynamicTopic {
		t.Errorf("topic: %+v", c)
	}
	wantCode(t, "an unknown key", alter(kafka.ResourceTopic, topic, "no.such.key", "1", set), kafka.ErrInvalidConfig)
	if err := alter(kafka.ResourceBroker, "1", "log.cleaner.delete.retention.ms", "60000", set); err.Code() != kafka.ErrNoError {
		t.Error(err)
	}
	if c := of(kafka.ResourceBroker, "1", "log.cleaner.delete.retention.ms"); c.Value != "60000" || c.Source != kafka.ConfigSourceDynamicBroker || len(c.Synonyms) == 0 {
		t.Errorf("broker: %+v from %v, synonyms %v", c, c.Source, c.Synonyms)
	}
	if c := of(kafka.ResourceTopic, topic, "delete.retention.ms"); c.Value != "60000" {
		t.Errorf("the topic does not follow the broker: %+v", c)
	}
	if err := alter(kafka.ResourceBroker, "1", "log.cleaner.delete.retention.ms", "", remove); err.Code() != kafka.ErrNoError {
		t.Error(err)
	}
	wantCode(t, "a key that needs a restart", alter(kafka.ResourceBroker, "1", "data.dir", "/x", set), kafka.ErrInvalidConfig)
	old, err := a.AlterConfigs(ctx, []kafka.ConfigResource{{Type: kafka.ResourceTopic, Name: topic, Config: []kafka.ConfigEntry{{Name: "retention.ms", Value: "5000"}}}})
	if err != nil || old[0].Error.Code() != kafka.ErrNoError {
		t.Errorf("replace: %v %+v", err, old)
	}
	if c := of(kafka.ResourceTopic, topic, "min.cleanable.dirty.ratio"); c.Value != "0.5" {
		t.Errorf("a replaced config kept %+v", c)
	}
}

func TestConfluentAdminIsToldThatSecurityIsOff(t *testing.T) {
	a, ctx := confluentAdmin(t)
	filter := kafka.ACLBindingFilter{
		Type: kafka.ResourceAny, ResourcePatternType: kafka.ResourcePatternTypeAny, Operation: kafka.ACLOperationAny, PermissionType: kafka.ACLPermissionTypeAny,
	}
	listed, err := a.DescribeACLs(ctx, filter)
	if err != nil {
		t.Fatal(err)
	}
	if len(listed.ACLBindings) != 0 { // librdkafka tells the code of a list with each of its entries only
		t.Errorf("describe acls: %+v", listed)
	}
	made, err := a.CreateACLs(ctx, kafka.ACLBindings{{
		Type: kafka.ResourceTopic, Name: "t", ResourcePatternType: kafka.ResourcePatternTypeLiteral, Principal: "User:u", Host: "*",
		Operation: kafka.ACLOperationRead, PermissionType: kafka.ACLPermissionTypeAllow,
	}})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "create acls", made[0].Error, kafka.ErrSecurityDisabled)
	removed, err := a.DeleteACLs(ctx, kafka.ACLBindingFilters{filter})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "delete acls", removed[0].Error, kafka.ErrSecurityDisabled)
	users, err := a.DescribeUserScramCredentials(ctx, []string{"alice"})
	every, err2 := a.DescribeUserScramCredentials(ctx, nil)
	if err != nil || err2 != nil || len(every.Descriptions) != 0 {
		t.Errorf("describe scram: %v, %v, %+v", err, err2, every)
	}
	wantCode(t, "describe scram", users.Descriptions["alice"].Error, kafka.ErrSecurityDisabled)
	altered, err := a.AlterUserScramCredentials(ctx, []kafka.UserScramCredentialUpsertion{{
		User: "alice", ScramCredentialInfo: kafka.ScramCredentialInfo{Mechanism: kafka.ScramMechanismSHA256, Iterations: 8192}, Password: []byte("p"), Salt: []byte("salt"),
	}}, []kafka.UserScramCredentialDeletion{{User: "bob", Mechanism: kafka.ScramMechanismSHA512}})
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"alice", "bob"} {
		wantCode(t, "alter scram of "+user, altered.Errors[user], kafka.ErrSecurityDisabled)
	}
}

func TestConfluentAdminKnowsTheCluster(t *testing.T) {
	a, ctx := confluentAdmin(t)
	id, err := a.ClusterID(ctx)
	controller, err2 := a.ControllerID(ctx)
	c, err3 := a.DescribeCluster(ctx, kafka.SetAdminOptionIncludeAuthorizedOperations(true))
	if err := errors.Join(err, err2, err3); err != nil {
		t.Fatal(err)
	}
	if id == "" || controller != 1 || c.ClusterID == nil || *c.ClusterID != id || len(c.Nodes) != 1 || c.Controller == nil || c.Controller.ID != 1 || len(c.AuthorizedOperations) == 0 {
		t.Errorf("cluster %q, controller %d, %+v", id, controller, c)
	}
	m, err := a.GetMetadata(nil, true, int(10*time.Second/time.Millisecond))
	if err != nil || len(m.Brokers) != 1 {
		t.Errorf("metadata: %v %+v", err, m)
	}
}
