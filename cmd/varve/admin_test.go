package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"varve/broker"
)

// adminServer answers every request with one status and value.
func adminServer(t *testing.T, id int32, status int, answer any) adminNode {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(func() {
		s.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return adminNode{id, s.URL}
}

func adminError(code, message string) broker.AdminError {
	return broker.AdminError{Header: broker.Header{Kind: "error", Version: 1}, Code: code, Message: message}
}

func TestEveryBrokerIsAskedAndTheLeadersAnswer(t *testing.T) {
	nodes := []adminNode{
		adminServer(t, 1, http.StatusOK, broker.TierTopic{Topic: "t", Partitions: []broker.TierPartition{{Partition: 1}}}),
		adminServer(t, 2, http.StatusConflict, adminError("not_leader", "broker 2 leads nothing of it")),
		adminServer(t, 3, http.StatusOK, broker.TierTopic{Topic: "t", Partitions: []broker.TierPartition{{Partition: 0}, {Partition: 2}}}),
	}
	answers, err := askEach[broker.TierTopic](context.Background(), nodes, http.MethodGet, topicPath("t"))
	if err != nil {
		t.Fatal(err)
	}
	topic := joinTopic(answers)
	for i, p := range topic.Partitions {
		if p.Partition != int32(i) {
			t.Fatalf("partitions %+v", topic.Partitions)
		}
	}
	if len(topic.Partitions) != 3 {
		t.Fatalf("partitions %+v", topic.Partitions)
	}
}

func TestAdminErrorsAreTheBrokersOwnWords(t *testing.T) {
	for _, tc := range []struct {
		node adminNode
		want string
	}{
		{adminServer(t, 1, http.StatusNotFound, adminError("unknown_topic", `topic "x" does not exist`)), `topic "x" does not exist`},
		{adminServer(t, 2, http.StatusConflict, adminError("not_leader", "led by broker 9")), "led by broker 9"},
		{adminServer(t, 3, http.StatusInternalServerError, "plain"), "500"},
		{adminServer(t, 4, http.StatusOK, "no object"), "decode answer of broker 4"},
		{adminNode{5, "http://127.0.0.1:1"}, "refused"},
	} {
		_, err := askEach[broker.TierTopic](context.Background(), []adminNode{tc.node}, http.MethodGet, topicPath("x"))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("broker %d: %v, want %q", tc.node.id, err, tc.want)
		}
	}
}

func TestTopicNamesCannotLeaveTheirPath(t *testing.T) {
	if got := topicPath("../a b?c/d"); got != "/api/v1/tier/topics/..%2Fa%20b%3Fc%2Fd" {
		t.Fatalf("path %s", got)
	}
}
