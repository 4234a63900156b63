# Random effects, residuals and predictions of lme4 for tests/data/glmm_interpretation.json.
# Run: Rscript scripts/regenerate_reference_glmm_interpretation.R tests/data/glmm_interpretation.json
suppressMessages({
  library(lme4)
  library(jsonlite)
})
control <- glmerControl(optimizer = "bobyqa", optCtrl = list(maxfun = 2e5, rhoend = 1e-9))
effects <- function(fit, group) {
  found <- ranef(fit, condVar = TRUE)[[group]]
  list(
    level = rownames(found), estimate = found[[1]],
    std_error = sqrt(attr(found, "postVar")[1, 1, ])
  )
}
herd <- glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp,
  family = binomial, control = control)
items <- glmer(r2 ~ Anger + Gender + btype + situ + (1 | id) + (1 | item), VerbAgg,
  family = binomial, control = control)
out <- list(
  versions = list(R = as.character(getRversion()), lme4 = as.character(packageVersion("lme4"))),
  cbpp = list(
    herd = effects(herd, "herd"),
    deviance = unname(residuals(herd, "deviance")),
    pearson = unname(residuals(herd, "pearson")),
    population = unname(predict(herd, re.form = NA, type = "response")),
    conditional = unname(predict(herd, type = "response"))
  ),
  VerbAgg = list(item = effects(items, "item"))
)
path <- commandArgs(trailingOnly = TRUE)[1]
write(toJSON(out, auto_unbox = TRUE, digits = NA, pretty = TRUE), path)
