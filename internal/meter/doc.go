// Package meter reads what a call used from the bytes of a provider's reply while they pass by, and from the bytes of
// a request what the call can use at most. It makes no request, keeps no reply, and knows nothing of budgets.
//
// [Recognise] says which provider and which kind of call a URL is. [NewReader] returns a [Reader] that is written the
// reply's body in pieces of any size and, at its end, gives a [Result]: the usage in the disjoint classes of
// [book.Usage], and whether the reply had reached its end. [ReadRequest] bounds a call before it is made; [LimitOutput]
// and [AskForUsage] change a request by the fewest possible bytes, and a [UsageFilter] takes the chunk that AskForUsage
// brings out of the reply again.
//
// Memory is bounded whatever comes: JSON is read by a scanner that keeps only the values at the paths that a provider's
// schema names, however long a line, a string or the whole body is, and however deep it nests. What cannot be read is
// passed over: Write never fails.
//
// There is one file for each family of wire formats. docs/usage.md has the table of fields and classes.
package meter
