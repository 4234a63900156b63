# Reference fits of generalized mixed models by glmmTMB, lme4 and ordinal.
#
# Usage: Rscript scripts/regenerate_reference_glmm.R DATA_DIRECTORY OUT.json
#   DATA_DIRECTORY holds <name>.csv.gz (in this repository: tests/data).
#
# tests/data/glmm.json was made with R 4.2.2, glmmTMB 1.1.5, lme4 1.1-31 and ordinal 2022.11-16.
# Laplace fits are glmmTMB's (-2 log-likelihood with every constant); fits by adaptive quadrature
# are lme4's, whose deviance leaves out a constant then, so only their estimates are kept.

suppressMessages({library(lme4); library(glmmTMB); library(ordinal); library(jsonlite)})

arguments <- commandArgs(TRUE)
stopifnot(length(arguments) == 2)

categorical <- c("herd", "period", "district", "id", "item", "INDEX", "BROOD", "LOCATION", "YEAR",
                 "gen", "popu", "rack", "nutrient")

read_table <- function(name) {
  d <- read.csv(file.path(arguments[1], paste0(name, ".csv.gz")), stringsAsFactors = TRUE)
  for (v in intersect(categorical, names(d))) d[[v]] <- factor(d[[v]])
  if (name == "grouseticks") d$cHEIGHT <- (d$HEIGHT - mean(d$HEIGHT)) / 100
  d
}

plants <- "total.fruits ~ nutrient * amd + rack + status + (1 | popu) + (1 | gen)"
women <- "use ~ age + I(age^2) + urban + livch + "
words <- "r2 ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)"
models <- list(
  list("cbpp", "cbind(incidence, size - incidence) ~ period + (1 | herd)", "binomial", c(7, 25)),
  list("Contraception", paste0(women, "(1 | district)"), "binomial", c(9, 25)),
  list("Contraception", paste0(women, "(urban | district)"), "binomial", NULL),
  list("VerbAgg", words, "binomial", NULL),
  list("VerbAgg", "r2 ~ (Anger + Gender + btype + situ)^2 + (1 | id) + (1 | item)", "binomial",
       NULL),
  list("VerbAgg", "r2 ~ 0 + item + (1 | id)", "binomial", 15),
  list("grouseticks", "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)",
       "poisson", NULL),
  list("Arabidopsis", plants, "poisson", NULL),
  list("Arabidopsis", plants, "nbinom2", NULL)
)

family_of <- function(x) switch(x, binomial = binomial(), poisson = poisson(),
                                nbinom2 = glmmTMB::nbinom2())
matrices <- function(x) lapply(x, function(v) unclass(matrix(v, nrow(v))))

results <- list()
for (model in models) {
  d <- read_table(model[[1]])
  f <- as.formula(model[[2]])
  m <- suppressWarnings(glmmTMB(f, d, family = family_of(model[[3]]), control =
    glmmTMBControl(optCtrl = list(iter.max = 2000, eval.max = 2000))))
  table <- summary(m)$coefficients$cond
  fits <- list(laplace = list(
    minus2ll = -2 * as.numeric(logLik(m)), fixef = as.list(table[, 1]), se = as.list(table[, 2]),
    G = matrices(VarCorr(m)$cond), sigma = sigma(m), source = "glmmTMB"))
  for (q in model[[4]]) {
    g <- suppressWarnings(glmer(f, d, family = model[[3]], nAGQ = q, control = glmerControl(
      optimizer = "bobyqa", optCtrl = list(maxfun = 1e5, rhoend = 1e-9))))
    fits[[paste0("agq", q)]] <- list(
      fixef = as.list(fixef(g)), se = as.list(sqrt(diag(as.matrix(vcov(g))))),
      theta = getME(g, "theta"), source = "lme4")
  }
  results[[length(results) + 1]] <- list(data = model[[1]], formula = model[[2]],
                                         family = model[[3]], fits = fits)
}

d <- read_table("VerbAgg")
d$resp <- factor(d$resp, levels = c("no", "perhaps", "yes"), ordered = TRUE)
text <- "resp ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)"
m <- clmm(as.formula(text), data = d, control = clmm.control(gradTol = 1e-6))
results[[length(results) + 1]] <- list(
  data = "VerbAgg", formula = text, family = "cumulative logit",
  fits = list(laplace = list(
    minus2ll = -2 * as.numeric(logLik(m)), coef = as.list(coef(m)),
    se = as.list(sqrt(diag(vcov(m)))[names(coef(m))]), G = matrices(VarCorr(m)),
    source = "ordinal::clmm")))
write_json(results, arguments[2], auto_unbox = TRUE, digits = 10, pretty = TRUE)
