# Reference fits of further generalized mixed models by glmmTMB, ordinal and lme4.
#
# Usage: Rscript scripts/regenerate_reference_glmm_more.R DATA_DIRECTORY OUT.json
#   DATA_DIRECTORY holds <name>.csv.gz (in this repository: tests/data).
#
# tests/data/glmm_more.json was made with R 4.2.2, glmmTMB 1.1.5, ordinal 2022.11-16 and
# lme4 1.1-31. Every fit is by the Laplace method, -2 log-likelihood with every constant.

suppressMessages({library(lme4); library(glmmTMB); library(ordinal); library(jsonlite)})

arguments <- commandArgs(TRUE)
stopifnot(length(arguments) == 2)

categorical <- c("BROOD", "LOCATION", "INDEX", "YEAR", "Subject", "id", "item", "gen",
                 "nutrient")

read_table <- function(name) {
  d <- read.csv(file.path(arguments[1], paste0(name, ".csv.gz")), stringsAsFactors = TRUE)
  for (v in intersect(categorical, names(d))) d[[v]] <- factor(d[[v]])
  d
}

sleep <- read_table("sleepstudy")
sleep$share <- sleep$Reaction / 500
grouse <- read_table("grouseticks")
grouse$cHEIGHT <- (grouse$HEIGHT - mean(grouse$HEIGHT)) / 100
tables <- list(grouseticks = grouse, positive = subset(grouse, TICKS > 0), sleepstudy = sleep,
               VerbAgg = read_table("VerbAgg"), Arabidopsis = read_table("Arabidopsis"))

ticks <- "TICKS ~ YEAR + cHEIGHT + (1 | BROOD)"
crossed <- "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | LOCATION)"
plants <- "total.fruits ~ nutrient + amd + (1 | gen)"
days <- "Reaction ~ Days + (Days | Subject)"
item <- function(name, data, formula, family, zi = "~0", disp = "~1") {
  list(name = name, data = data, formula = formula, family = family, zi = zi, disp = disp)
}
models <- list(
  item("zero-inflated Poisson", "grouseticks", ticks, "poisson", "~ cHEIGHT"),
  item("zero-inflated Poisson, random zeros", "grouseticks", ticks, "poisson",
       "~ 1 + (1 | LOCATION)"),
  item("zero-inflated NB2", "Arabidopsis", plants, "nbinom2", "~ nutrient"),
  item("hurdle Poisson", "grouseticks", ticks, "truncated_poisson", "~ cHEIGHT"),
  item("hurdle NB2", "grouseticks", ticks, "truncated_nbinom2", "~ cHEIGHT"),
  item("NB1", "grouseticks", crossed, "nbinom1"),
  item("NB2", "grouseticks", crossed, "nbinom2"),
  item("NB2, dispersion", "grouseticks", ticks, "nbinom2", disp = "~ YEAR"),
  item("generalized Poisson", "grouseticks", crossed, "genpois"),
  item("truncated Poisson", "positive", ticks, "truncated_poisson"),
  item("truncated NB2", "positive", ticks, "truncated_nbinom2"),
  item("Tweedie", "grouseticks", ticks, "tweedie"),
  item("gamma", "sleepstudy", days, "gamma"),
  item("gamma, dispersion", "sleepstudy", days, "gamma", disp = "~ Days"),
  item("beta", "sleepstudy", "share ~ Days + (Days | Subject)", "beta"),
  item("beta, dispersion", "sleepstudy", "share ~ Days + (1 | Subject)", "beta", disp = "~ Days"),
  item("Gaussian, dispersion", "sleepstudy", days, "gaussian", disp = "~ Days"),
  item("lognormal", "sleepstudy", "log(Reaction) ~ Days + (Days | Subject)", "gaussian")
)

family_of <- function(x) switch(x,
  poisson = poisson(), gaussian = gaussian(), gamma = Gamma("log"), beta = beta_family(),
  nbinom1 = glmmTMB::nbinom1(), nbinom2 = glmmTMB::nbinom2(), genpois = glmmTMB::genpois(),
  truncated_poisson = glmmTMB::truncated_poisson(), tweedie = glmmTMB::tweedie(),
  truncated_nbinom2 = glmmTMB::truncated_nbinom2())
matrices <- function(x) lapply(x, function(v) unclass(matrix(v, nrow(v))))
estimates <- function(s) if (is.null(s)) NULL else
  list(estimate = as.list(setNames(s[, 1], rownames(s))), se = as.list(setNames(s[, 2], rownames(s))))

results <- list()
for (model in models) {
  d <- tables[[model$data]]
  m <- suppressWarnings(glmmTMB(as.formula(model$formula), d, family = family_of(model$family),
    ziformula = as.formula(model$zi), dispformula = as.formula(model$disp),
    control = glmmTMBControl(optCtrl = list(iter.max = 5000, eval.max = 5000, rel.tol = 1e-14))))
  s <- summary(m)$coefficients
  constant <- if (model$name == "lognormal") 2 * sum(log(d$Reaction)) else 0
  power <- if (model$family == "tweedie") family_params(m) else NULL
  results[[length(results) + 1]] <- c(model, list(
    minus2ll = -2 * as.numeric(logLik(m)) + constant, mean = estimates(s$cond),
    zero = estimates(s$zi), dispersion = estimates(s$disp), sigma = sigma(m), power = power,
    G = matrices(VarCorr(m)$cond), G_zero = matrices(VarCorr(m)$zi),
    gradient = max(abs(m$obj$gr(m$fit$par))), source = "glmmTMB"))
}

words <- "resp ~ btype + situ + (1 | id)"
for (link in c("logit", "probit", "cloglog", "loglog")) {
  # the same model without persons, by clm: which names its documentation defines
  single <- clm(resp ~ btype + situ, data = tables$VerbAgg, link = link)
  m <- clmm(as.formula(words), tables$VerbAgg, link = link,
            control = clmm.control(gradTol = 1e-6))
  s <- summary(m)$coefficients
  results[[length(results) + 1]] <- list(
    name = paste("cumulative", link), data = "VerbAgg", formula = words, family = "cumulative",
    link = link, minus2ll = -2 * as.numeric(logLik(m)), mean = estimates(s),
    without_persons = -2 * as.numeric(logLik(single)), G = matrices(VarCorr(m)),
    source = "ordinal")
}
# Links beside the canonical one: glmmTMB's Laplace method has the observed information, like ours;
# lme4 has the expected one, and so another criterion (kept here for the comparison).
for (link in c("probit", "cloglog")) {
  f <- r2 ~ btype + situ + (1 | id) + (1 | item)
  m <- glmmTMB(f, tables$VerbAgg, binomial(link),
    control = glmmTMBControl(optCtrl = list(iter.max = 5000, eval.max = 5000, rel.tol = 1e-14)))
  g <- glmer(f, tables$VerbAgg, binomial(link), control = glmerControl(optimizer = "bobyqa",
    optCtrl = list(maxfun = 1e5, rhoend = 1e-9)))
  results[[length(results) + 1]] <- list(
    name = paste("binomial", link), data = "VerbAgg", formula = deparse(f), family = "binomial",
    link = link, minus2ll = -2 * as.numeric(logLik(m)), lme4 = -2 * as.numeric(logLik(g)),
    mean = estimates(summary(m)$coefficients$cond), G = matrices(VarCorr(m)$cond),
    source = "glmmTMB")
}
writeLines(toJSON(results, auto_unbox = TRUE, digits = NA, pretty = TRUE, null = "null"),
           arguments[2])
