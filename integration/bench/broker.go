package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// broker is one varve process, or the next one on the same directory after a restart.
type broker struct {
	*process
	l     *lab
	addr  string // of Kafka clients
	admin string // host:port
	data  string
	args  []string
	env   []string
}

// startBroker runs varve in the row's directory. The store is a URL, or "" for none.
func (l *lab) startBroker(store string) (*broker, error) {
	addrs, err := freeAddresses(4)
	if err != nil {
		return nil, err
	}
	b := &broker{l: l, addr: addrs[0], admin: addrs[1], data: filepath.Join(l.dir, "data")}
	b.args = []string{
		"serve", "--data", b.data, "--listen", addrs[0], "--admin", addrs[1], "--gossip", addrs[2], "--internal", addrs[3],
		"-X", "log.level=warn",
	}
	if store != "" {
		b.args = append(b.args, "--store", store)
		b.env = []string{"AWS_ACCESS_KEY_ID=" + accessKey, "AWS_SECRET_ACCESS_KEY=" + secretKey}
	}
	for _, s := range l.settings {
		b.args = append(b.args, "-X", s)
	}
	l.atEnd(func() {
		if b.process != nil {
			b.kill()
		}
	})
	_, err = b.start()
	return b, err
}

// start runs the process and tells how long it took to be ready.
func (b *broker) start() (time.Duration, error) {
	begin := time.Now()
	p, err := startProcess(b.env, b.l.varve, b.args...)
	if err != nil {
		return 0, err
	}
	b.process = p
	err = p.until(func() error {
		resp, err := http.Get("http://" + b.admin + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz: %s: %s", resp.Status, body)
		}
		return nil
	})
	return time.Since(begin), err
}

// restart stops cleanly, empties the cold cache, and starts again.
func (b *broker) restart() error {
	if err := b.stop(15 * time.Second); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(b.data, "cache")); err != nil {
		return err
	}
	_, err := b.start()
	return err
}

func (b *broker) pids() []int { return []int{b.pid()} }

// get asks the admin listener and decodes its JSON answer into v; post the same with POST.
func (b *broker) get(path string, v any) error  { return b.ask(http.MethodGet, path, v) }
func (b *broker) post(path string, v any) error { return b.ask(http.MethodPost, path, v) }

func (b *broker) ask(method, path string, v any) error {
	req, err := http.NewRequest(method, "http://"+b.admin+"/api/v1/"+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, body)
	}
	return json.Unmarshal(body, v)
}

// tierStatus is what the rows read of /api/v1/tier/status.
type tierStatus struct {
	Requests  struct{ Put, Get, Head, List, Delete, Failed int64 }
	Objects   int64
	LastError string `json:"last_error"`
	Bytes     tierBytes
}

type tierBytes struct {
	HotOnly  int64 `json:"hot_only"`
	Both     int64 `json:"both"`
	ColdOnly int64 `json:"cold_only"`
	Stored   int64 `json:"stored"`
}

type tierPoint struct{ Offset int64 }

// tierTopic is what the rows read of /api/v1/tier/topics/{topic}.
type tierTopic struct {
	Partitions []struct {
		Partition  int32
		LogStart   tierPoint `json:"log_start"`
		LocalStart tierPoint `json:"local_start"`
		TieredEnd  tierPoint `json:"tiered_end"`
		Bytes      tierBytes
		Objects    int64
		Pending    struct {
			UploadSegments int64 `json:"upload_segments"`
			DropSegments   int64 `json:"drop_segments"`
		}
	}
}

// flush seals what is open and waits until all of it is in the store.
func (b *broker) flush(topic string) error {
	var out struct {
		Partitions []struct {
			Partition int32
			Done      bool
			Reason    string
		}
	}
	if err := b.post("tier/topics/"+topic+"/flush?wait_ms=100000", &out); err != nil {
		return err
	}
	for _, p := range out.Partitions {
		if !p.Done {
			return fmt.Errorf("flush %s/%d: %s", topic, p.Partition, p.Reason)
		}
	}
	return nil
}

// settle flushes, and waits until local retention has dropped what it may: at most share of the
// tiered bytes are still on local disk.
func (b *broker) settle(topic string, share float64) (tierTopic, error) {
	if err := b.flush(topic); err != nil {
		return tierTopic{}, err
	}
	var t tierTopic
	err := b.until(func() error {
		if err := b.get("tier/topics/"+topic, &t); err != nil {
			return err
		}
		var local, cold int64
		for _, p := range t.Partitions {
			local, cold = local+p.Bytes.HotOnly+p.Bytes.Both, cold+p.Bytes.ColdOnly
		}
		if float64(local) > share*float64(cold) {
			return fmt.Errorf("%d bytes of %s are still local, %d cold", local, topic, cold)
		}
		if cold == 0 {
			return errors.New("nothing is cold")
		}
		return nil
	})
	return t, err
}

// coldRange is, for each partition, the offsets that only the store has.
func (t tierTopic) coldRange(tps []tp) (from, end map[tp]int64, bytes int64) {
	from, end = map[tp]int64{}, map[tp]int64{}
	for _, x := range tps {
		for _, p := range t.Partitions {
			if p.Partition == x.part {
				from[x], end[x] = p.LogStart.Offset, p.LocalStart.Offset
				bytes += p.Bytes.ColdOnly
			}
		}
	}
	return from, end, bytes
}
