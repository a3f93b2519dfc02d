package postgres

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
)

func TestAncestry_IsKnownByKeyAndByID(t *testing.T) {
	t.Parallel()
	team, company, other := uuid.UUID{1}, uuid.UUID{2}, uuid.UUID{3}
	var k ancestry
	byKey, byID := &book.Want{Keys: []string{"team"}}, &book.Want{Tenants: []book.ID{team, uuid.Nil}}
	known := func(want *book.Want) []book.ID {
		ids, ok := k.of(want)
		if !ok {
			require.Empty(t, ids)
			return nil
		}
		return ids
	}
	read := func(want *book.Want, locked []book.ID, relations ...relation) bool {
		return k.learn(want, ordered(append([]book.ID{book.Root, book.Defaults}, locked...)), relations)
	}
	require.Nil(t, known(byKey))
	require.Nil(t, known(byID))
	require.NotNil(t, known(&book.Want{}), "nobody has to be searched for")

	require.False(t, read(byKey, nil), "it is not there")
	require.Nil(t, known(byKey))
	require.False(t, read(byKey, []book.ID{team}, relation{team, company, "team"}), "the company is not locked")
	require.Nil(t, known(byKey), "nor is known who stands above that")
	require.True(t, read(byKey, []book.ID{team, company}, relation{team, company, "team"}, relation{id: company, key: "company"}))
	require.Equal(t, []book.ID{team, company}, known(byKey))
	require.Equal(t, []book.ID{company}, known(&book.Want{Keys: []string{"company"}}))
	require.Nil(t, known(byID), "that without a row was not asked for yet")
	require.True(t, read(byID, []book.ID{team, company, uuid.Nil}, relation{team, company, "team"}, relation{id: company}))
	require.Equal(t, []book.ID{team, company, uuid.Nil}, known(byID))

	// It moved, its key is another one's, the key is nobody's.
	require.False(t, read(byKey, known(byKey), relation{team, other, "team"}, relation{id: company, key: "company"}))
	require.Nil(t, known(byKey))
	require.True(t, read(byKey, []book.ID{team, other}, relation{team, other, "team"}, relation{id: other}))
	require.Equal(t, []book.ID{team, other}, known(byKey))
	require.False(t, read(byKey, known(byKey), relation{team, other, "club"}, relation{id: other}))
	require.Nil(t, known(byKey))
	require.True(t, read(byKey, []book.ID{company}, relation{id: company, key: "team"}))
	require.Equal(t, []book.ID{company}, known(byKey))

	// A circle, which nothing makes, does not hang.
	read(byID, []book.ID{team, company}, relation{id: team, parent: company}, relation{id: company, parent: team})
	require.Nil(t, known(&book.Want{Tenants: []book.ID{team}}))
}

func TestAncestry_IsBounded(t *testing.T) {
	t.Parallel()
	for name, id := range map[string]func(key string) book.ID{
		"by tenants":            func(key string) book.ID { return uuid.NewSHA1(uuid.Nil, []byte(key)) },
		"by keys of one tenant": func(string) book.ID { return uuid.UUID{1} },
	} {
		var k ancestry
		for n := range 3*maxAncestry + 1 {
			key := fmt.Sprintf("tenant-%d", n)
			want, r := &book.Want{Keys: []string{key}}, relation{id: id(key), key: key}
			require.True(t, k.learn(want, []book.ID{r.id}, []relation{r}))
			ids, ok := k.of(want)
			require.True(t, ok)
			require.Equal(t, []book.ID{r.id}, ids)
			require.LessOrEqual(t, max(len(k.ids), len(k.parents)), maxAncestry, name)
		}
	}
}

func TestOrdered_IsDescendingAndWithoutDoubles(t *testing.T) {
	t.Parallel()
	a, b, c := uuid.UUID{1}, uuid.UUID{1, 1}, uuid.UUID{0xff}
	require.Equal(t, []book.ID{c, b, a}, ordered([]book.ID{a, c, b, a, c}))
}
