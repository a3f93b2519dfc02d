package tenantotel

import (
	"go.opentelemetry.io/otel/attribute"

	"github.com/llmtenant/tenant"
)

// scope is the name of the meter and of the tracer. They have no schema: the GenAI conventions belong to none that an SDK has,
// and a resource with another one could not be merged with the SDK's own.
const scope = "github.com/llmtenant/tenant/otel"

// The names of the ledger's own metrics. Amounts of money are whole nano-dollars, 1e-9 US dollars.
const (
	metricCost           = "llmtenant.cost.nano_usd"
	metricCostReturned   = "llmtenant.cost.returned.nano_usd"
	metricCharge         = "llmtenant.charge.nano_usd"
	metricChargeReturned = "llmtenant.charge.returned.nano_usd"
	metricCalls          = "llmtenant.calls"
	metricRefusals       = "llmtenant.refusals"
	metricIncidents      = "llmtenant.incidents"
	metricThresholds     = "llmtenant.thresholds"
	metricAdmission      = "llmtenant.admission.duration"
	metricBatchSize      = "llmtenant.batch.size"
	metricBatch          = "llmtenant.batch.duration"
	metricSweeps         = "llmtenant.sweeps"
	metricHolds          = "llmtenant.holds"
	metricHeld           = "llmtenant.held.nano_usd"
	metricPending        = "llmtenant.pending"
	metricPendingAge     = "llmtenant.pending.age"
)

// The ledger's own attributes.
const (
	attrTenant    = attribute.Key("llmtenant.tenant.id")
	attrExecution = attribute.Key("llmtenant.execution.id")
	attrOutcome   = attribute.Key("llmtenant.outcome")
	attrPlace     = attribute.Key("llmtenant.place")
	attrReason    = attribute.Key("llmtenant.refusal.reason")
	attrIncident  = attribute.Key("llmtenant.incident")
	attrMetric    = attribute.Key("llmtenant.limit.metric")
	attrWindow    = attribute.Key("llmtenant.limit.window")
	attrPercent   = attribute.Key("llmtenant.threshold.percent")
	attrCost      = attribute.Key("llmtenant.cost.nano_usd")
	attrHeld      = attribute.Key("llmtenant.held.nano_usd")
	attrEstimated = attribute.Key("llmtenant.estimated")
	attrUnpriced  = attribute.Key("llmtenant.unpriced")
	attrAdmission = attribute.Key("llmtenant.admission.duration")
)

// Names of the GenAI conventions: of version 1.36 of the semantic conventions, which most back ends read, and of the repository
// to which they have moved since (commit 024a4f9, 2026). The latter are used where they are asked for.
const (
	genAITokenUsage        = "gen_ai.client.token.usage"
	genAIOperationDuration = "gen_ai.client.operation.duration"

	genAIInferenceDuration       = "gen_ai.client.inference.duration"
	genAIInputTokens             = "gen_ai.client.inference.usage.input_tokens"
	genAIOutputTokens            = "gen_ai.client.inference.usage.output_tokens"
	genAICacheReadTokens         = "gen_ai.client.inference.usage.cache_read.input_tokens"
	genAICacheWriteTokens        = "gen_ai.client.inference.usage.cache_write.input_tokens"
	genAIReasoningTokens         = "gen_ai.client.inference.usage.reasoning.output_tokens"
	genAIOperationInput          = "gen_ai.client.inference.operation.input_tokens"
	genAIOperationOutput         = "gen_ai.client.inference.operation.output_tokens"
	genAIExperimental            = "gen_ai_latest_experimental"
	genAISystem                  = attribute.Key("gen_ai.system")
	genAIProvider                = attribute.Key("gen_ai.provider.name")
	genAIOperation               = attribute.Key("gen_ai.operation.name")
	genAIRequestModel            = attribute.Key("gen_ai.request.model")
	genAIRequestMaxTokens        = attribute.Key("gen_ai.request.max_tokens")
	genAIResponseModel           = attribute.Key("gen_ai.response.model")
	genAIResponseID              = attribute.Key("gen_ai.response.id")
	genAIAgent                   = attribute.Key("gen_ai.agent.name")
	genAITokenType               = attribute.Key("gen_ai.token.type")
	genAIModality                = attribute.Key("gen_ai.token.modality")
	genAIUsageInput              = attribute.Key("gen_ai.usage.input_tokens")
	genAIUsageOutput             = attribute.Key("gen_ai.usage.output_tokens")
	genAIUsageCacheRead          = attribute.Key("gen_ai.usage.cache_read.input_tokens")
	genAIUsageCacheWrite         = attribute.Key("gen_ai.usage.cache_write.input_tokens")
	genAIUsageReasoning          = attribute.Key("gen_ai.usage.reasoning.output_tokens")
	errorType                    = attribute.Key("error.type")
	stabilityOptIn               = "OTEL_SEMCONV_STABILITY_OPT_IN"
	other                        = "_OTHER" // what stands for a value that has no series of its own
	unknownModality              = "unknown"
	textModality                 = "text"
	audioModality                = "audio"
	imageModality                = "image"
	outcomeReleased              = "released"
	outcomeDeferred              = "deferred"
	outcomeCorrected             = "corrected"
	outcomeAdmitted              = "admitted"
	outcomeRefused               = "refused"
	mostTenants                  = 1000
	mostModels, mostAgents       = 200, 50
	mostProviders                = 80
	mostOperations, mostFailures = 20, 50
	inputTokens, outTokens       = "input", "output"
	sweepDone, sweepFailed       = "done", "failed"
	batchDone, batchFailed       = "committed", "failed"
	reasonHostError              = "host_error"
	reasonBudgetExceeded         = "budget_exceeded"
	reasonBudgetContended        = "budget_contended"
	reasonNoPrice                = "no_price"
	reasonTenantSuspended        = "tenant_suspended"
	reasonDuplicate              = "duplicate"
	reasonUnavailable            = "unavailable"
	reasonNotMigrated            = "not_migrated"
	reasonClosed                 = "closed"
	reasonCanceled               = "canceled"
	reasonDeadlineExceeded       = "deadline_exceeded"
	reasonOther                  = "other"
	incidentOverrun              = "overrun"
	incidentUnpriced             = "unpriced"
	incidentEstimated            = "estimated"
	incidentCostDiffers          = "cost_differs"
	incidentUnmetered            = "unmetered"
	incidentTimeZoneDiffers      = "time_zone_differs"
	incidentPending              = "pending"
)

// providerNames are those that the conventions have other names for.
var providerNames = map[string]string{
	"bedrock": "aws.bedrock", "azure": "azure.ai.openai", "google": "gcp.gemini", "vertex": "gcp.vertex_ai",
	"mistral": "mistral_ai", "moonshot": "moonshot_ai", "watsonx": "ibm.watsonx.ai", "xai": "x_ai",
}

// providerName is the conventions' name of a provider.
func providerName(name string) string {
	if known, ok := providerNames[name]; ok {
		return known
	}
	return name
}

// provider is the attribute of the conventions that are in use. In version 1.36 it had another key, xAI was called otherwise, and Moonshot
// was not known.
func (t *Telemetry) provider(name string) attribute.KeyValue {
	switch {
	case t.latest:
		return genAIProvider.String(providerName(name))
	case name == "xai", name == "moonshot":
		return genAISystem.String(name)
	default:
		return genAISystem.String(providerName(name))
	}
}

// input and output are what the conventions count, together and by modality (text, audio, image): the input with what was read from
// a cache and written to it, the output with reasoning. The ledger's classes are disjoint.
func input(u tenant.Usage) (total int64, shares [3]int64) {
	shares = [...]int64{u.Input + u.CacheRead + u.CacheWrite5m + u.CacheWrite1h, u.InputAudio + u.CacheReadAudio, u.InputImage}
	return shares[0] + shares[1] + shares[2], shares
}

func output(u tenant.Usage) (total int64, shares [3]int64) {
	shares = [...]int64{u.Output + u.Reasoning, u.OutputAudio, u.OutputImage}
	return shares[0] + shares[1] + shares[2], shares
}
