package sqldb

// Kept is how many statements are kept.
func (s *Schema) Kept() (n int) {
	s.renamed.Range(func(any, any) bool { n++; return true })
	return n
}
