package api

import "fmt"

// shapes are the layouts of the flexible requests that kmsg decodes (KIP-482), walked before it does:
// kmsg counts down a tag section's length without looking at what is left, so five bytes would keep a
// core busy for minutes. One letter a field:
//
//	b h i l u   1, 2, 4, 8 and 16 bytes
//	s           a string, null or not
//	( ... )     an array, null or not, of such structures
//	?( ... )    a structure that may be null
//	t           a tag section
var shapes = map[int16][]struct {
	from  int16 // the first version of this layout
	shape string
}{
	2:  {{6, "ib(s(iilt)t)t"}, {10, "ib(s(iilt)t)it"}},
	3:  {{9, "(st)bbbt"}, {10, "(ust)bbbt"}, {11, "(ust)bbt"}},
	8:  {{8, "siss(s(ilist)t)t"}, {10, "siss(u(ilist)t)t"}},
	9:  {{6, "s(s(i)t)t"}, {7, "s(s(i)t)bt"}, {8, "(s(s(i)t)t)bt"}, {9, "(ssi(s(i)t)t)bt"}, {10, "(ssi(u(i)t)t)bt"}},
	10: {{3, "sbt"}, {4, "b(s)t"}},
	11: {{6, "siisss(sst)t"}, {8, "siisss(sst)st"}},
	12: {{4, "sisst"}},
	13: {{4, "s(sst)t"}, {5, "s(ssst)t"}},
	14: {{4, "siss(sst)t"}, {5, "sissss(sst)t"}},
	15: {{5, "(s)bt"}},
	16: {{3, "t"}, {4, "(s)t"}, {5, "(s)(s)t"}},
	18: {{3, "sst"}, {5, "sssit"}},
	19: {{5, "(sih(i(i)t)(sst)t)ibt"}},
	20: {{4, "(s)it"}, {6, "(sut)it"}},
	21: {{2, "(s(ilt)t)it"}},
	22: {{2, "sit"}, {3, "silht"}},
	23: {{4, "i(s(iiit)t)t"}},
	24: {{3, "slh(s(i)t)t"}, {4, "(slhb(s(i)t)t)t"}},
	25: {{3, "slhst"}},
	26: {{3, "slhbt"}},
	27: {{1, "(lhb(s(i)t)it)t"}, {2, "(lhb(s(i)t)ibt)t"}},
	28: {{3, "sslhiss(s(ilist)t)t"}, {6, "sslhiss(u(ilist)t)t"}},
	29: {{2, "bsbssbbt"}},
	30: {{2, "(bsbssbbt)t"}},
	31: {{2, "(bsbssbbt)t"}},
	32: {{4, "(bs(s)t)bbt"}},
	33: {{2, "(bs(sst)t)bt"}},
	34: {{2, "(s(s(i)t)t)t"}},
	35: {{2, "(s(i)t)t"}},
	37: {{2, "(si((i)t)t)ibt"}},
	38: {{2, "(sst)lt"}, {3, "ss(sst)lt"}},
	39: {{2, "slt"}},
	40: {{2, "slt"}},
	41: {{2, "(sst)t"}},
	42: {{2, "(s)t"}},
	43: {{2, "b(s(i)t)it"}},
	44: {{1, "(bs(sbst)t)bt"}},
	45: {{0, "i(s(i(i)t)t)t"}, {1, "ib(s(i(i)t)t)t"}},
	46: {{0, "i(s(i)t)t"}},
	48: {{1, "(sbst)bt"}},
	49: {{1, "((sst)(slbt)t)bt"}},
	50: {{0, "(st)t"}},
	51: {{0, "(sbt)(sbisst)t"}},
	55: {{0, "(s(it)t)t"}},
	57: {{0, "i(shbt)t"}, {1, "i(shbt)bt"}},
	60: {{0, "bt"}, {1, "bbt"}, {2, "bbbt"}},
	61: {{0, "(s(i)t)t"}},
	64: {{0, "it"}},
	65: {{0, "(s)t"}},
	66: {{0, "(s)(l)t"}, {1, "(s)(l)lt"}, {2, "(s)(l)lst"}},
	74: {{0, "t"}, {1, "(b)t"}},
	75: {{0, "(st)i?(sit)t"}},
}

// checkShape refuses a flexible body whose lengths go beyond it.
func checkShape(key, version int16, body []byte) error {
	shape := ""
	for _, s := range shapes[key] {
		if version >= s.from {
			shape = s.shape
		}
	}
	r := reader{b: body}
	if rest := r.shape(shape); rest != "" {
		panic(fmt.Sprintf("shape of key %d version %d: %q is left over", key, version, rest))
	}
	return r.err()
}

// fieldBytes are the letters of fixed size.
var fieldBytes = map[byte]int{'b': 1, 'h': 2, 'i': 4, 'l': 8, 'u': 16}

// shape walks fields up to the end of a group and returns what of the shape is behind it.
func (r *reader) shape(s string) (rest string) {
	for s != "" {
		field := s[0]
		s = s[1:]
		switch field {
		case ')':
			return s
		case 's':
			r.str(true)
		case 't':
			r.tags(true)
		case '(':
			s = r.group(s, r.array(true, 1))
		case '?':
			n := 0
			if r.int8() >= 0 {
				n = 1
			}
			s = r.group(s[1:], n)
		default:
			r.take(fieldBytes[field])
		}
	}
	return ""
}

// group walks n structures of a shape and returns what follows the group.
func (r *reader) group(s string, n int) (rest string) {
	rest = s[groupEnd(s):]
	for ; n > 0 && !r.bad; n-- {
		r.shape(s)
	}
	return rest
}

// groupEnd is the position behind the ')' that closes the group s is inside of.
func groupEnd(s string) int {
	depth := 1
	for i := range len(s) {
		switch s[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	panic("shape with an open group: " + s)
}
