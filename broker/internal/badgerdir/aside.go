package badgerdir

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// keepAside is how many directories that were set aside are kept: the newest tells what is wrong, one
// before it whether that is new.
const keepAside = 2

const asideInfix = ".broken-"

// SetAside moves a database that does not open out of the way and returns its new name. Of those that
// were moved before only the newest are kept. Only a database that can be rebuilt is set aside.
func SetAside(dir string, now time.Time, log *slog.Logger) (string, error) {
	aside := dir + asideInfix + strconv.FormatInt(now.UnixNano(), 10)
	if err := os.Rename(dir, aside); err != nil {
		return "", fmt.Errorf("set database aside: %w", err)
	}
	all, err := filepath.Glob(filepath.Join(filepath.Dir(dir), filepath.Base(dir)+asideInfix+"*"))
	if err != nil {
		return "", fmt.Errorf("list databases set aside: %w", err)
	}
	number := func(name string) int64 {
		n, err := strconv.ParseInt(name[strings.LastIndex(name, asideInfix)+len(asideInfix):], 10, 64)
		if err != nil {
			return -1
		}
		return n
	}
	all = slices.DeleteFunc(all, func(name string) bool { return number(name) < 0 }) // not named by us
	slices.SortFunc(all, func(a, b string) int { return int(min(max(number(a)-number(b), -1), 1)) })
	for _, old := range all[:max(len(all)-keepAside, 0)] {
		if old == aside { // a clock that went back must not take what was just moved
			continue
		}
		log.Info("removing a database that was set aside long ago", "dir", old)
		if err := os.RemoveAll(old); err != nil {
			return "", fmt.Errorf("remove database set aside: %w", err)
		}
	}
	return aside, nil
}
