package vfs

import (
	"maps"
	"math/rand/v2"
)

// CrashClone is the file system as a power cut at this moment could leave it; the original goes
// on. What was synced is there. Of the rest, drawn from rng:
//
//   - names: of each directory's unsynced changes a prefix survives, or any subset;
//   - contents: no, all or some 512-byte pieces of what was written;
//   - length: anything from the shortest since the last sync to the current one, with zeros
//     where nothing survived; a truncation may be undone, together with what came after it.
//
// With rng nil everything unsynced is lost. The same rng state and the same history give the same
// clone. Locks and open files stay with the original.
func (m *Mem) CrashClone(rng *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	survives := map[*memChange]bool{}
	if rng != nil {
		drawNames(m.mu.root, rng, survives, map[*memNode]bool{})
	}
	c := &cloner{nodes: map[*memNode]*memNode{}}
	c.data = func(d *memData) *memData { return d.crash(rng) }
	c.names = func(n, out *memNode) {
		names := maps.Clone(n.durable)
		for _, change := range n.pending {
			if survives[change] {
				change.apply(names)
			}
		}
		out.durable = c.copyNames(names)
		out.entries = maps.Clone(out.durable)
	}
	return c.clone(m)
}

// KillClone is the file system as kill -9 of its process leaves it: nothing is lost, nothing
// unsynced became durable, and no lock or open file is left. The original goes on.
func (m *Mem) KillClone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	changes := map[*memChange]*memChange{}
	c := &cloner{nodes: map[*memNode]*memNode{}, data: (*memData).copyAll}
	c.names = func(n, out *memNode) {
		out.entries, out.durable = c.copyNames(n.entries), c.copyNames(n.durable)
		for _, change := range n.pending {
			to := &memChange{dir: out, after: change.after}
			for _, e := range change.edits {
				to.edits = append(to.edits, memEdit{e.name, c.node(e.node)})
			}
			changes[change] = to
			out.pending = append(out.pending, to)
		}
	}
	k := c.clone(m)
	for _, change := range changes {
		// A half that was already committed is not pending and has no copy.
		change.after = changes[change.after]
	}
	return k
}

// drawNames decides for every directory which unsynced changes survive.
func drawNames(n *memNode, rng *rand.Rand, survives map[*memChange]bool, seen map[*memNode]bool) {
	if n == nil || n.data != nil || seen[n] {
		return
	}
	seen[n] = true
	prefix := -1
	if len(n.pending) > 0 && rng.IntN(2) == 0 {
		prefix = rng.IntN(len(n.pending) + 1)
	}
	for i, c := range n.pending {
		if i < prefix || (prefix < 0 && rng.IntN(2) == 0) {
			survives[c] = true
			if c.after != nil {
				survives[c.after] = true
			}
		}
	}
	for _, names := range []map[string]*memNode{n.entries, n.durable} {
		for _, name := range sortedKeys(names) {
			drawNames(names[name], rng, survives, seen)
		}
	}
	for _, c := range n.pending {
		for _, e := range c.edits {
			drawNames(e.node, rng, survives, seen)
		}
	}
}

// cloner copies a tree, each node once however many names it has.
type cloner struct {
	nodes map[*memNode]*memNode
	names func(n, out *memNode)
	data  func(*memData) *memData
}

func (c *cloner) clone(m *Mem) *Mem {
	out := newMem(c.node(m.mu.root))
	for _, n := range c.nodes {
		for _, child := range n.entries {
			child.links++
		}
	}
	out.mu.total = m.mu.total
	for _, n := range c.nodes {
		if n.data == nil || n.links == 0 {
			continue
		}
		for _, s := range n.data.slots {
			if s.alloc {
				out.mu.used += memPageBytes
			}
		}
	}
	return out
}

func (c *cloner) node(n *memNode) *memNode {
	if n == nil {
		return nil
	}
	if out := c.nodes[n]; out != nil {
		return out
	}
	out := &memNode{mtime: n.mtime}
	c.nodes[n] = out
	if n.data != nil {
		out.data = c.data(n.data)
	} else {
		c.names(n, out)
	}
	return out
}

// copyNames goes by name, so that what data draws from a generator comes in one order.
func (c *cloner) copyNames(names map[string]*memNode) map[string]*memNode {
	out := make(map[string]*memNode, len(names))
	for _, name := range sortedKeys(names) {
		out[name] = c.node(names[name])
	}
	return out
}
