package broker

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fillAdminRequest fills the requests of the admin surface; false for all others.
func fillAdminRequest(req kmsg.Request, topic string) bool {
	switch r := req.(type) {
	case *kmsg.CreateACLsRequest:
		r.Creations = []kmsg.CreateACLsRequestCreation{kmsg.NewCreateACLsRequestCreation()}
	case *kmsg.DeleteACLsRequest:
		r.Filters = []kmsg.DeleteACLsRequestFilter{kmsg.NewDeleteACLsRequestFilter(), kmsg.NewDeleteACLsRequestFilter()}
	case *kmsg.AlterReplicaLogDirsRequest:
		r.Dirs = []kmsg.AlterReplicaLogDirsRequestDir{{Dir: "/elsewhere", Topics: []kmsg.AlterReplicaLogDirsRequestDirTopic{{Topic: topic, Partitions: []int32{0, 1}}}}}
	case *kmsg.ElectLeadersRequest:
		r.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: topic, Partitions: []int32{0}}, {Topic: "missing", Partitions: []int32{0}}}
	case *kmsg.AlterPartitionAssignmentsRequest:
		r.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: topic, Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{
			{Partition: 0, Replicas: []int32{1}}, {Partition: 1, Replicas: []int32{7}},
		}}}
	case *kmsg.DescribeClientQuotasRequest:
		r.Components = []kmsg.DescribeClientQuotasRequestComponent{{EntityType: "user", MatchType: kmsg.QuotasMatchTypeAny}}
	case *kmsg.AlterClientQuotasRequest:
		e := kmsg.NewAlterClientQuotasRequestEntry()
		e.Entity = []kmsg.AlterClientQuotasRequestEntryEntity{{Type: "user", Name: kmsg.StringPtr("nobody")}, {Type: "client-id"}}
		e.Ops = []kmsg.AlterClientQuotasRequestEntryOp{{Key: "request_percentage", Value: 12.5}}
		r.Entries = append(r.Entries, e)
	case *kmsg.DescribeUserSCRAMCredentialsRequest:
		r.Users = []kmsg.DescribeUserSCRAMCredentialsRequestUser{{Name: "alice"}}
	case *kmsg.AlterUserSCRAMCredentialsRequest:
		r.Deletions = []kmsg.AlterUserSCRAMCredentialsRequestDeletion{{Name: "alice", Mechanism: 1}, {Name: "alice", Mechanism: 2}}
		r.Upsertions = []kmsg.AlterUserSCRAMCredentialsRequestUpsertion{{Name: "bob", Mechanism: 1, Iterations: 4096, Salt: []byte("s"), SaltedPassword: []byte("p")}}
	case *kmsg.DescribeQuorumRequest:
		r.Topics = []kmsg.DescribeQuorumRequestTopic{
			{Topic: "__cluster_metadata", Partitions: []kmsg.DescribeQuorumRequestTopicPartition{{Partition: 0}}},
			{Topic: topic, Partitions: []kmsg.DescribeQuorumRequestTopicPartition{{Partition: 0}}},
		}
	case *kmsg.UpdateFeaturesRequest:
		u := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
		u.Feature, u.MaxVersionLevel = "metadata.version", 29
		r.FeatureUpdates, r.ValidateOnly = append(r.FeatureUpdates, u), true
	case *kmsg.UnregisterBrokerRequest:
		r.BrokerID = 77
	default:
		return false
	}
	return true
}

func TestSecurityIsSaidToBeOffInTheShapeOfEachRequest(t *testing.T) {
	c := dialProto(t, protoBroker(t, nil))
	off := kerr.SecurityDisabled.Code
	describe := kmsg.NewPtrDescribeACLsRequest()
	describe.Version = 3 // all ANY
	describe.ResourceType, describe.ResourcePatternType, describe.Operation, describe.PermissionType = 1, 1, 1, 1
	if r := ask[*kmsg.DescribeACLsResponse](c, describe); r.ErrorCode != off || r.ErrorMessage == nil || len(r.Resources) != 0 {
		t.Errorf("DescribeAcls: %+v", r)
	}
	create, remove := kmsg.NewPtrCreateACLsRequest(), kmsg.NewPtrDeleteACLsRequest()
	create.Version, remove.Version = 3, 3
	fillAdminRequest(create, "")
	fillAdminRequest(remove, "")
	if r := ask[*kmsg.CreateACLsResponse](c, create); len(r.Results) != 1 || r.Results[0].ErrorCode != off || r.Results[0].ErrorMessage == nil {
		t.Errorf("CreateAcls: %+v", r)
	}
	if r := ask[*kmsg.DeleteACLsResponse](c, remove); len(r.Results) != 2 || r.Results[1].ErrorCode != off {
		t.Errorf("DeleteAcls: %+v", r)
	}
	users := kmsg.NewPtrDescribeUserSCRAMCredentialsRequest()
	if r := ask[*kmsg.DescribeUserSCRAMCredentialsResponse](c, users); r.ErrorCode != 0 || len(r.Results) != 0 {
		t.Errorf("DescribeUserScramCredentials of all: %+v", r)
	}
	users.Users = []kmsg.DescribeUserSCRAMCredentialsRequestUser{{Name: "alice"}, {Name: "bob"}, {Name: "bob"}}
	if r := ask[*kmsg.DescribeUserSCRAMCredentialsResponse](c, users); r.ErrorCode != 0 || len(r.Results) != 2 ||
		r.Results[0].ErrorCode != off || r.Results[1].ErrorCode != kerr.DuplicateResource.Code {
		t.Errorf("DescribeUserScramCredentials: %+v", r)
	}
	alter := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
	fillAdminRequest(alter, "")
	if r := ask[*kmsg.AlterUserSCRAMCredentialsResponse](c, alter); len(r.Results) != 2 || r.Results[0].User != "alice" || r.Results[1].ErrorCode != off {
		t.Errorf("AlterUserScramCredentials: %+v", r)
	}
	tokens := kmsg.NewPtrDescribeDelegationTokenRequest()
	tokens.Version = 3
	if r := ask[*kmsg.DescribeDelegationTokenResponse](c, tokens); r.ErrorCode != kerr.DelegationTokenAuthDisabled.Code {
		t.Errorf("DescribeDelegationToken: %+v", r)
	}
	probe := kmsg.NewPtrApiVersionsRequest()
	probe.Version, probe.ClientSoftwareName, probe.ClientSoftwareVersion = 3, "test", "1"
	for _, k := range ask[*kmsg.ApiVersionsResponse](c, probe).ApiKeys {
		if slices.Contains([]int16{17, 36, 71, 72}, k.ApiKey) {
			t.Errorf("%s is advertised", kmsg.NameForKey(k.ApiKey))
		}
	}
}

func TestReplicasAreInTheOneLogDirAndNowhereElse(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	c.makeTopic("t", 2, nil)
	for dir, want := range map[string]int16{
		b.cfg.DataDir: 0, filepath.Join(b.cfg.DataDir, "."): 0, "/elsewhere": kerr.LogDirNotFound.Code, "": kerr.LogDirNotFound.Code,
		b.cfg.DataDir + "/topics": kerr.LogDirNotFound.Code,
	} {
		req := kmsg.NewPtrAlterReplicaLogDirsRequest()
		req.Version = 2
		req.Dirs = []kmsg.AlterReplicaLogDirsRequestDir{{Dir: dir, Topics: []kmsg.AlterReplicaLogDirsRequestDirTopic{{Topic: "t", Partitions: []int32{0, 1, 2}}}}}
		r := ask[*kmsg.AlterReplicaLogDirsResponse](c, req)
		missing := want
		if want == 0 {
			missing = kerr.UnknownTopicOrPartition.Code
		}
		p := r.Topics[0].Partitions
		if len(r.Topics) != 1 || len(p) != 3 || p[0].ErrorCode != want || p[1].ErrorCode != want || p[2].ErrorCode != missing {
			t.Errorf("%q: %+v", dir, r.Topics)
		}
	}
}

func TestElectionsAreNotNeededWhereThePreferredReplicaLeads(t *testing.T) {
	c := dialProto(t, protoBroker(t, nil))
	c.makeTopic("t", 2, nil)
	for _, kind := range []int8{0, 1} {
		req := kmsg.NewPtrElectLeadersRequest()
		req.Version, req.ElectionType, req.TimeoutMillis = 2, kind, 1000
		req.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: "t", Partitions: []int32{0, 5}}, {Topic: "none", Partitions: []int32{0}}}
		r := ask[*kmsg.ElectLeadersResponse](c, req)
		p := r.Topics[0].Partitions
		if r.ErrorCode != 0 || p[0].ErrorCode != kerr.ElectionNotNeeded.Code || p[1].ErrorCode != kerr.UnknownTopicOrPartition.Code ||
			r.Topics[1].Partitions[0].ErrorCode != kerr.UnknownTopicOrPartition.Code || p[1].ErrorMessage == nil {
			t.Errorf("type %d: %+v", kind, r)
		}
		req.Topics = nil // all: those that need none are left out
		if r := ask[*kmsg.ElectLeadersResponse](c, req); r.ErrorCode != 0 || len(r.Topics) != 0 {
			t.Errorf("all, type %d: %+v", kind, r)
		}
	}
	req := kmsg.NewPtrElectLeadersRequest()
	req.Version, req.ElectionType = 2, 9
	if r := ask[*kmsg.ElectLeadersResponse](c, req); r.ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("unknown type: %+v", r)
	}
}

func TestReassignmentsSayWhyTheyAreRefused(t *testing.T) {
	c := dialProto(t, protoBroker(t, nil))
	c.makeTopic("t", 2, nil)
	for what, x := range map[string]struct {
		topic     string
		partition int32
		replicas  []int32
		frozen    bool
		want      int16
	}{
		"as it is":         {"t", 0, []int32{1}, false, 0},
		"cancel":           {"t", 0, nil, false, kerr.NoReassignmentInProgress.Code},
		"no replicas":      {"t", 0, []int32{}, false, kerr.InvalidReplicaAssignment.Code},
		"unknown broker":   {"t", 0, []int32{2}, false, kerr.InvalidReplicaAssignment.Code},
		"negative broker":  {"t", 0, []int32{-1}, false, kerr.InvalidReplicaAssignment.Code},
		"a broker twice":   {"t", 0, []int32{1, 1}, false, kerr.InvalidReplicaAssignment.Code},
		"no partition":     {"t", 9, []int32{1}, false, kerr.UnknownTopicOrPartition.Code},
		"no topic":         {"none", 0, []int32{1}, false, kerr.UnknownTopicOrPartition.Code},
		"another factor":   {"t", 0, []int32{1, 2}, false, kerr.InvalidReplicaAssignment.Code},
		"the same, frozen": {"t", 1, []int32{1}, true, 0},
	} {
		req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
		req.Version, req.TimeoutMillis, req.AllowReplicationFactorChange = 1, 1000, !x.frozen
		req.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: x.topic, Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Partition: x.partition, Replicas: x.replicas}}}}
		r := ask[*kmsg.AlterPartitionAssignmentsResponse](c, req)
		p := r.Topics[0].Partitions[0]
		if r.ErrorCode != 0 || p.ErrorCode != x.want || (x.want != 0) != (p.ErrorMessage != nil) {
			t.Errorf("%s: %+v", what, r)
		}
	}
	list := kmsg.NewPtrListPartitionReassignmentsRequest()
	if r := ask[*kmsg.ListPartitionReassignmentsResponse](c, list); r.ErrorCode != 0 || len(r.Topics) != 0 {
		t.Errorf("list: %+v", r)
	}
}

func TestTheQuorumIsThisBroker(t *testing.T) {
	b := protoBroker(t, nil)
	c := dialProto(t, b)
	req := kmsg.NewPtrDescribeQuorumRequest()
	req.Version = 2
	fillAdminRequest(req, "t")
	r := ask[*kmsg.DescribeQuorumResponse](c, req)
	p := r.Topics[0].Partitions[0]
	if r.ErrorCode != 0 || p.ErrorCode != 0 || p.LeaderID != 1 || p.LeaderEpoch < 1 || p.HighWatermark < 1 || len(p.CurrentVoters) != 1 ||
		p.CurrentVoters[0].ReplicaID != 1 || p.CurrentVoters[0].LogEndOffset < p.HighWatermark {
		t.Errorf("%+v", r)
	}
	if len(r.Nodes) != 1 || r.Nodes[0].NodeID != 1 || len(r.Nodes[0].Listeners) != 1 || r.Nodes[0].Listeners[0].Port == 0 {
		t.Errorf("nodes %+v", r.Nodes)
	}
	if other := r.Topics[1].Partitions[0]; other.ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("another topic: %+v", other)
	}
}

func TestFeatureLevelsComeWithTheProgram(t *testing.T) {
	c := dialProto(t, protoBroker(t, nil))
	update := func(version int16, feature string, level int16, kind int8) (int16, int) {
		req := kmsg.NewPtrUpdateFeaturesRequest()
		req.Version, req.ValidateOnly = version, true
		u := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
		u.Feature, u.MaxVersionLevel, u.UpgradeType = feature, level, kind
		req.FeatureUpdates = append(req.FeatureUpdates, u)
		r := ask[*kmsg.UpdateFeaturesResponse](c, req)
		if (r.ErrorCode != 0) != (r.ErrorMessage != nil) {
			t.Errorf("%s %d: %+v", feature, level, r)
		}
		return r.ErrorCode, len(r.Results)
	}
	bad := kerr.InvalidUpdateVersion.Code
	for _, x := range []struct {
		feature string
		level   int16
		kind    int8
		want    int16
	}{
		{"metadata.version", 29, 1, 0},
		{"metadata.version", 28, 1, bad},
		{"metadata.version", 28, 2, bad},
		{"metadata.version", 30, 1, bad},
		{"metadata.version", -1, 1, bad},
		{"metadata.version", 29, 0, bad},
		{"metadata.version", 29, 9, bad},
		{"no.such.version", 1, 1, bad},
		{"eligible.leader.replicas.version", 0, 3, bad},
	} {
		if code, _ := update(2, x.feature, x.level, x.kind); code != x.want {
			t.Errorf("%s %d type %d: code %d, want %d", x.feature, x.level, x.kind, code, x.want)
		}
	}
	if code, results := update(1, "metadata.version", 29, 1); code != 0 || results != 1 {
		t.Errorf("version 1: code %d, %d results", code, results)
	}
	for v, least := range map[int16]int16{3: 1, 4: 0} { // older Java clients cannot read a level of 0
		probe := kmsg.NewPtrApiVersionsRequest()
		probe.Version, probe.ClientSoftwareName, probe.ClientSoftwareVersion = v, "test", "1"
		r := ask[*kmsg.ApiVersionsResponse](c, probe)
		lowest := int16(99)
		for _, f := range r.SupportedFeatures {
			lowest = min(lowest, f.MinVersion)
		}
		if lowest != least || len(r.FinalizedFeatures) == 0 || r.FinalizedFeaturesEpoch < 1 {
			t.Errorf("v%d: %+v %+v", v, r.SupportedFeatures, r.FinalizedFeatures)
		}
	}
}

func TestABrokerThatAnswersIsNotUnregistered(t *testing.T) {
	c := dialProto(t, protoBroker(t, nil))
	for id, want := range map[int32]int16{1: kerr.InvalidRequest.Code, 7: kerr.BrokerIDNotRegistered.Code, -1: kerr.BrokerIDNotRegistered.Code} {
		req := kmsg.NewPtrUnregisterBrokerRequest()
		req.BrokerID = id
		if r := ask[*kmsg.UnregisterBrokerResponse](c, req); r.ErrorCode != want || r.ErrorMessage == nil {
			t.Errorf("%d: %+v", id, r)
		}
	}
}

func TestEverythingThatHasConfigsIsListed(t *testing.T) {
	c := dialProto(t, protoBroker(t, nil))
	c.makeTopic("t", 1, nil)
	list := func(version int16, kinds ...int8) (string, int16) {
		req := kmsg.NewPtrListConfigResourcesRequest()
		req.Version, req.ResourceTypes = version, kinds
		r := ask[*kmsg.ListConfigResourcesResponse](c, req)
		var names []string
		for _, res := range r.ConfigResources {
			names = append(names, kmsg.ConfigResourceType(res.Type).String()+" "+res.Name)
		}
		return strings.Join(names, ", "), r.ErrorCode
	}
	for _, x := range []struct {
		version int16
		kinds   []int8
		want    string
		code    int16
	}{
		{1, nil, "TOPIC t, BROKER 1, BROKER_LOGGER 1", 0},
		{1, []int8{2}, "TOPIC t", 0},
		{1, []int8{4, 8}, "BROKER 1, BROKER_LOGGER 1", 0},
		{1, []int8{16, 32}, "", 0},
		{1, []int8{2, 3}, "", kerr.UnsupportedVersion.Code},
		{0, nil, "", 0},
	} {
		if got, code := list(x.version, x.kinds...); got != x.want || code != x.code {
			t.Errorf("v%d %v: %q code %d, want %q code %d", x.version, x.kinds, got, code, x.want, x.code)
		}
	}
}
