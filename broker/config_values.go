package broker

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// sizeUnits in the order in which FormatSize tries them. Kafka's names are binary; the decimal
// ones are accepted because people write them.
var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"TiB", 1 << 40},
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"TB", 1e12},
	{"GB", 1e9},
	{"MB", 1e6},
	{"kB", 1e3},
	{"KB", 1e3},
	{"B", 1},
}

// ParseSize reads bytes: a plain integer as Kafka writes it, or a number with a unit such as
// 512MiB. Negative values are left to the caller's bounds.
func ParseSize(text string) (int64, error) {
	text = strings.TrimSpace(text)
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, nil
	}
	for _, u := range sizeUnits {
		number, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || math.IsNaN(f) || f < 0 || f*float64(u.bytes) >= math.MaxInt64 {
			break
		}
		return int64(f * float64(u.bytes)), nil
	}
	return 0, fmt.Errorf("%q is not a size: write bytes, or a number with KiB, MiB, GiB or TiB", clip(text))
}

// FormatSize writes bytes in the largest binary unit that keeps them exact.
func FormatSize(n int64) string {
	for _, u := range sizeUnits[:4] {
		if n >= u.bytes && n%u.bytes == 0 && n != math.MaxInt64 {
			return strconv.FormatInt(n/u.bytes, 10) + u.suffix
		}
	}
	return strconv.FormatInt(n, 10)
}

// ParseMillis reads a duration: a plain integer is milliseconds as in Kafka, else Go's form
// (24h, 1h30m, 500ms) with d for days.
func ParseMillis(text string) (time.Duration, error) {
	text = strings.TrimSpace(text)
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return millis(n), nil
	}
	rest, days := text, time.Duration(0)
	if head, tail, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.ParseUint(head, 10, 32)
		if err != nil || n > maxDays {
			return 0, badDuration(text)
		}
		rest, days = tail, time.Duration(n)*24*time.Hour
		if rest == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || d+days < 0 {
		return 0, badDuration(text)
	}
	if d%time.Millisecond != 0 {
		return 0, fmt.Errorf("%q is finer than a millisecond", clip(text))
	}
	return d + days, nil
}

// maxDays keeps days within what a time.Duration holds (292 years).
const maxDays = 100_000

func badDuration(text string) error {
	return fmt.Errorf("%q is not a duration: write milliseconds, or a number with ms, s, m, h or d", clip(text))
}

// millis turns Kafka's milliseconds into a duration; what does not fit (Long.MAX_VALUE means
// "no limit" there) becomes the largest whole number of milliseconds.
func millis(n int64) time.Duration {
	const most = math.MaxInt64 / int64(time.Millisecond)
	return time.Duration(max(min(n, most), -most)) * time.Millisecond
}

// FormatMillis writes a duration in the largest unit that keeps it exact.
func FormatMillis(d time.Duration) string {
	for _, u := range []struct {
		suffix string
		unit   time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}} {
		if d >= u.unit && d%u.unit == 0 {
			return strconv.FormatInt(int64(d/u.unit), 10) + u.suffix
		}
	}
	if d <= 0 {
		return strconv.FormatInt(d.Milliseconds(), 10)
	}
	return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
}

// parseInto sets the key's field from text, after its bounds and its list of values.
func (k *Key) parseInto(c *Config, text string) error {
	text = strings.TrimSpace(text)
	if len(text) > maxValueBytes {
		return fmt.Errorf("value of %d bytes is longer than %d", len(text), maxValueBytes)
	}
	switch p := k.field(c).(type) {
	case *string:
		if err := k.checkText(text); err != nil {
			return err
		}
		*p = text
	case *[]string:
		*p = splitList(text)
	case *bool:
		b, err := parseBool(text)
		if err != nil {
			return err
		}
		*p = b
	case *time.Duration:
		d, err := ParseMillis(text)
		if err == nil {
			err = k.checkNumber(d.Milliseconds())
		}
		if err != nil {
			return err
		}
		*p = d
	case *float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", clip(text))
		}
		if err := k.checkFraction(f); err != nil {
			return err
		}
		*p = f
	case *int64, *int32:
		n, err := k.parseNumber(text)
		if err == nil {
			err = k.checkNumber(n)
		}
		if err != nil {
			return err
		}
		setNumber(p, n)
	}
	return nil
}

// maxValueBytes bounds one value; the longest legitimate one is a list of seeds.
const maxValueBytes = 16 << 10

func setNumber(p any, n int64) {
	switch p := p.(type) {
	case *int64:
		*p = n
	case *int32:
		*p = int32(n) // within Key.Max, which newKey keeps inside int32
	}
}

func (k *Key) parseNumber(text string) (int64, error) {
	if k.Type == TypeBytes || k.Type == TypeBytesPerSecond {
		return ParseSize(text)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", clip(text))
	}
	return n, nil
}

func (k *Key) checkNumber(n int64) error {
	for _, s := range k.Special {
		if n == s.Value {
			return nil
		}
	}
	if n < k.Min || n > k.Max {
		return fmt.Errorf("%s is outside %s", k.human(n), k.Bounds())
	}
	return nil
}

func (k *Key) checkFraction(f float64) error {
	if !(f >= float64(k.Min) && f <= float64(k.Max)) { // NaN is neither
		return fmt.Errorf("%v is outside %d to %d", f, k.Min, k.Max)
	}
	return nil
}

func (k *Key) checkText(text string) error {
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("control characters are not allowed")
	}
	if len(k.Values) == 0 {
		return nil
	}
	for _, v := range k.Values {
		if v == text {
			return nil
		}
	}
	return fmt.Errorf("%q is not one of %s", clip(text), strings.Join(k.Values, ", "))
}

// Value is the key's value in Kafka's text form: whole milliseconds, bytes, true or false.
func (k *Key) Value(c *Config) string {
	switch p := k.field(c).(type) {
	case *string:
		return *p
	case *[]string:
		return strings.Join(*p, ",")
	case *bool:
		return strconv.FormatBool(*p)
	case *time.Duration:
		if *p == millis(math.MaxInt64) { // what Kafka writes for "no limit" does not fit a duration
			return strconv.FormatInt(math.MaxInt64, 10)
		}
		return strconv.FormatInt(p.Milliseconds(), 10)
	case *int64:
		return strconv.FormatInt(*p, 10)
	case *int32:
		return strconv.FormatInt(int64(*p), 10)
	case *float64:
		return strconv.FormatFloat(*p, 'g', -1, 64)
	default:
		panic(fmt.Sprintf("broker: key %s has a field of type %T", k.Name, p))
	}
}

// Human is Value as a person writes it in a file: 7d, 128MiB.
func (k *Key) Human(c *Config) string {
	switch p := k.field(c).(type) {
	case *time.Duration:
		return k.human(p.Milliseconds())
	case *int64:
		return k.human(*p)
	default:
		return k.Value(c)
	}
}

func (k *Key) human(n int64) string {
	switch k.Type {
	case TypeDuration:
		if millis(n) == millis(math.MaxInt64) {
			return strconv.FormatInt(math.MaxInt64, 10)
		}
		return FormatMillis(millis(n))
	case TypeBytes, TypeBytesPerSecond:
		return FormatSize(n)
	default:
		return strconv.FormatInt(n, 10)
	}
}

func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("%q is not true or false", clip(text))
}

func splitList(text string) []string {
	var out []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// clip keeps a bad value from filling a terminal or a log.
func clip(text string) string {
	const most = 80
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}
