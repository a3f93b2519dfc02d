package book

import "hash/fnv"

// Put returns the place, of those beside the home, in which the tenant of a key is made: its number among them. A place that is added
// gets its share of the tenants, and the others stay where they would have been put.
func Put(key string, places []string) int {
	best, at := uint64(0), 0
	for i, name := range places {
		h := fnv.New64a()
		_, _ = h.Write([]byte(name))
		_, _ = h.Write([]byte{0})
		_, _ = h.Write([]byte(key))
		// The last bytes of a text hardly change the upper bits of its hash, by which places are compared.
		sum := h.Sum64()
		sum ^= sum >> 33
		sum *= 0xff51afd7ed558ccd
		sum ^= sum >> 33
		if i == 0 || sum > best {
			best, at = sum, i
		}
	}
	return at
}
