package meter

// A field is what a value of a reply means, whatever its name is with a provider.
type field uint8

// The fields that are counts of tokens or requests come first: a tally has room for each.
const (
	fieldNone field = iota

	fieldPrompt     // input, of whatever the provider includes in it
	fieldCompletion // output, likewise
	fieldTotal
	fieldCached
	fieldCacheHit // another name of cached, which some providers state beside it
	fieldCacheWrite
	fieldCacheWrite5m
	fieldCacheWrite1h
	fieldAudioIn
	fieldImageIn
	fieldReasoning
	fieldAudioOut
	fieldImageOut
	fieldTextOut
	fieldToolUse
	fieldCitation
	fieldSearches
	fieldOtherSearches
	fieldAudioCached
	fieldImageCached
	fieldAudioTool // of what tools gave a model to read
	fieldImageTool
	fieldPromptTwin // names of the same numbers that are read where the first are absent
	fieldCompletionTwin
	fieldCachedTwin
	fieldCacheWriteTwin
	fieldHostPrompt // counts that the host of a model adds to what the model says
	fieldHostCompletion
	fieldHostCached
	fieldHostCacheWrite
	fieldCachedRead  // Bifrost's: its cached tokens are what was read and what was written
	fieldCachedWrite //
	fieldClaude5m    // new-api's
	fieldClaude1h    //
	fieldOtherCompletion
	fieldConnector // of what Mistral's connectors gave a model to read
	fieldPictures  // that Cohere charges by the piece

	numCounts

	fieldModel
	fieldID
	fieldTier
	fieldUsageTier
	fieldSpeed
	fieldRegion
	fieldFinish
	fieldStatus
	fieldType
	fieldError
	fieldText
	fieldUsage
	fieldIteration
	fieldIterations
	fieldIterationType
	fieldIterationModel
	fieldModality
	fieldModalityTokens
	fieldPromptDetail
	fieldCachedDetail
	fieldCompletionDetail
	fieldToolUseDetail
	fieldQueries
	fieldQuery
	fieldImageGen // what making images for a response used
	fieldDrawing  // what writing a drawing used
	fieldDrawingModel
	fieldBilledSearches
	fieldTool
	fieldToolType
	fieldToolModel
	fieldToolMemory
	fieldItems
	fieldItem
	fieldItemType
	fieldItemAction
	fieldItemContainer
	fieldDoneItem
	fieldDone
	fieldCost
	fieldEstimatedCost
	fieldGatewayCost
	fieldUpstreamCost
	fieldMarketCost
	fieldTicks
	fieldOwnKey
	fieldSeconds
	fieldAudioSeconds
	fieldBytes
	fieldCacheTTL
	fieldCacheTTLTokens
	fieldCacheDetail
	fieldStatistics
	fieldBlocked
	fieldSemantic // whose way of counting a usage has
	fieldSource   // who has counted
	fieldBuild    // of a server
	fieldTimings
	fieldChoice
	fieldChoiceIndex
	fieldChoiceUsage
	fieldGenerated
	fieldDetails
	fieldPrefill
	fieldMade
	fieldCharacters
	fieldShares // of the models that a system of models has asked
	fieldShare
	fieldShareModel
	fieldProblem // a number, which is zero where there is none
)
