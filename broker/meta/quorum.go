package meta

import "github.com/hashicorp/raft"

// Quorum is the raft group as this node sees it.
type Quorum struct {
	Leader NodeID // NoNode if none is known
	Term   uint64
	// Committed is the last index that is committed, Last the last in this node's log.
	Committed, Last uint64
	// Voters and Observers are in the order of the raft configuration.
	Voters, Observers []NodeID
}

// Quorum describes the raft group.
func (n *Node) Quorum() (Quorum, error) {
	future := n.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return Quorum{}, err
	}
	q := Quorum{Leader: n.ControllerID(), Term: n.raft.CurrentTerm(), Committed: n.raft.CommitIndex(), Last: n.raft.LastIndex()}
	for _, s := range future.Configuration().Servers {
		if s.Suffrage == raft.Voter {
			q.Voters = append(q.Voters, nodeOfServer(s.ID))
		} else {
			q.Observers = append(q.Observers, nodeOfServer(s.ID))
		}
	}
	return q, nil
}
