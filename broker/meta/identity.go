package meta

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"

	"varve/broker/internal/vfs"
)

// identityFile is the name of the identity in the data directory.
const identityFile = "meta.json"

// maxIdentityBytes bounds what is read of it. The file has about 200 bytes.
const maxIdentityBytes = 4096

// identityVersion is the only layout of meta.json so far.
const identityVersion = 1

// Identity says who a data directory is. It is written once, fsynced, at the first boot, and
// survives everything but the disk: a directory that lost it is another server.
type Identity struct {
	// ClusterID is minted at the first boot of the cluster: 22 characters of base64url, like Kafka's.
	ClusterID string
	// NodeID is the broker id that the directory belongs to; at least 1.
	NodeID NodeID
	// DirectoryID is random. A wiped disk gets another one, and so another raft server id.
	DirectoryID string
	// Bootstrapped is set once raft/ holds state. From then on an empty raft/ is a loss to be
	// reported and never a reason to bootstrap again.
	Bootstrapped bool
}

// identityJSON is meta.json.
type identityJSON struct {
	V            int    `json:"v"`
	ClusterID    string `json:"cluster_id"`
	NodeID       NodeID `json:"node_id"`
	DirectoryID  string `json:"directory_id"`
	Bootstrapped bool   `json:"bootstrapped"`
}

// ServerID is the raft server id: a wiped voter is another server (DESIGN section 6).
func (id Identity) ServerID() string { return fmt.Sprintf("%d-%s", id.NodeID, id.DirectoryID) }

// ErrNodeIDMismatch is returned when the data directory belongs to another broker id.
var ErrNodeIDMismatch = errors.New("the data directory belongs to another node id")

// LoadOrCreateIdentity reads dir/meta.json, or mints cluster and directory id and writes it
// durably. It creates dir. A file that is there and cannot be read is an error, never a new identity.
func LoadOrCreateIdentity(fsys vfs.FS, dir string, nodeID NodeID) (Identity, error) {
	if nodeID < 1 {
		return Identity{}, fmt.Errorf("load identity: node id %d is below 1", nodeID)
	}
	name := path.Join(filepath.ToSlash(dir), identityFile)
	id, err := readIdentity(fsys, name)
	if err == nil {
		if id.NodeID != nodeID {
			return Identity{}, fmt.Errorf("load identity %s: directory of node %d, configured as node %d: %w",
				name, id.NodeID, nodeID, ErrNodeIDMismatch)
		}
		return id, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return Identity{}, fmt.Errorf("load identity %s: %w", name, err)
	}
	if id, err = mintIdentity(nodeID); err != nil {
		return Identity{}, err
	}
	if err := makeDataDir(fsys, dir); err != nil {
		return Identity{}, err
	}
	return id, writeIdentity(fsys, dir, id)
}

func mintIdentity(nodeID NodeID) (Identity, error) {
	cluster, err := newIDText()
	if err != nil {
		return Identity{}, err
	}
	directory, err := newIDText()
	if err != nil {
		return Identity{}, err
	}
	return Identity{ClusterID: cluster, NodeID: nodeID, DirectoryID: directory}, nil
}

// makeDataDir creates dir and makes its name durable.
func makeDataDir(fsys vfs.FS, dir string) error {
	if err := fsys.MkdirAll(dir); err != nil {
		return fmt.Errorf("create data directory: %w", err)
	}
	if err := fsys.SyncDir(path.Dir(filepath.ToSlash(dir))); err != nil {
		return fmt.Errorf("sync parent of data directory %s: %w", dir, err)
	}
	return nil
}

func readIdentity(fsys vfs.FS, name string) (Identity, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return Identity{}, err
	}
	defer f.Close() // read only
	size, err := f.Size()
	if err != nil {
		return Identity{}, err
	}
	if size > maxIdentityBytes {
		return Identity{}, fmt.Errorf("%d bytes, want at most %d", size, maxIdentityBytes)
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return Identity{}, err
	}
	return parseIdentity(b)
}

func parseIdentity(b []byte) (Identity, error) {
	var doc identityJSON
	if err := decodeStrict(b, &doc); err != nil {
		return Identity{}, err
	}
	switch {
	case doc.V != identityVersion:
		return Identity{}, fmt.Errorf("version %d, this program knows %d", doc.V, identityVersion)
	case doc.NodeID < 1:
		return Identity{}, fmt.Errorf("node id %d is below 1", doc.NodeID)
	case !validIDText(doc.ClusterID), !validIDText(doc.DirectoryID):
		return Identity{}, errors.New("cluster id or directory id is not 22 characters of base64url")
	}
	return Identity{doc.ClusterID, doc.NodeID, doc.DirectoryID, doc.Bootstrapped}, nil
}

// writeIdentity replaces meta.json atomically: temporary file, fsync, rename, directory fsync.
func writeIdentity(fsys vfs.FS, dir string, id Identity) error {
	b, err := json.MarshalIndent(identityJSON{
		identityVersion, id.ClusterID, id.NodeID, id.DirectoryID, id.Bootstrapped,
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode identity: %w", err)
	}
	slashed := filepath.ToSlash(dir)
	name, temp := path.Join(slashed, identityFile), path.Join(slashed, identityFile+".tmp")
	if err := writeSynced(fsys, temp, append(b, '\n')); err != nil {
		return fmt.Errorf("write identity %s: %w", temp, err)
	}
	if err := fsys.Rename(temp, name); err != nil {
		return fmt.Errorf("install identity %s: %w", name, err)
	}
	if err := fsys.SyncDir(dir); err != nil {
		return fmt.Errorf("sync data directory %s: %w", dir, err)
	}
	return nil
}

func writeSynced(fsys vfs.FS, name string, b []byte) error {
	// What an earlier crash left under the temporary name was never anybody's identity.
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

// decodeStrict decodes exactly one JSON value without unknown fields and nothing after it: what
// an older program does not know it must refuse, not drop.
func decodeStrict(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if dec.InputOffset() < int64(len(bytes.TrimRight(b, " \t\r\n"))) {
		return errors.New("bytes after the JSON value")
	}
	return nil
}
