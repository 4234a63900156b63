# Reference fits of linear mixed models by lme4, lmerTest and pbkrtest.
#
# Usage: Rscript scripts/regenerate_reference_lmm.R DATA_DIRECTORY OUT.json
#   DATA_DIRECTORY holds <name>.csv.gz (in this repository: tests/data).
#
# tests/data/lmm.json was made with R 4.2.2, lme4 1.1-31, lmerTest 3.1-3 and pbkrtest 0.5.2.
# Each model is fitted by BOBYQA to 1e-9, then by Nelder-Mead from there; the lower criterion is
# kept, because lme4's default tolerance stops early enough to be seen in the fifth digit.

suppressMessages({
  library(lme4); library(lmerTest); library(pbkrtest); library(jsonlite)
})

arguments <- commandArgs(TRUE)
stopifnot(length(arguments) == 2)
data_directory <- arguments[1]
out_file <- arguments[2]

# Columns that look like numbers but name units or categories.
categorical <- c("s", "d", "dept", "service", "school", "Subject", "sample", "plate", "batch",
                 "cask", "replicate", "recipe", "Worker", "Batch")

models <- list(
  c("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
  c("sleepstudy", "Reaction ~ Days + (Days || Subject)"),
  c("sleepstudy", "Reaction ~ 1 + (1 | Subject)"),
  c("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
  c("Pastes", "strength ~ 1 + (1 | batch/cask)"),
  c("Dyestuff", "Yield ~ 1 + (1 | Batch)"),
  c("Dyestuff2", "Yield ~ 1 + (1 | Batch)"),
  c("Hsb82", "mAch ~ 1 + (1 | school)"),
  c("Hsb82", "mAch ~ meanses * cses + sector * cses + (cses | school)"),
  c("Hsb82", "mAch ~ minrty + sx + ses + meanses + sector + (ses | school)"),
  c("InstEval", "y ~ service + (1 | s) + (1 | d) + (1 | dept)"),
  c("nlme_Orthodont", "distance ~ age * Sex + (age | Subject)"),
  c("nlme_Machines", "score ~ Machine + (1 | Worker) + (1 | Worker:Machine)"),
  c("cake", "angle ~ recipe * temperature + (1 | recipe:replicate)")
)

read_table <- function(name) {
  d <- read.csv(file.path(data_directory, paste0(name, ".csv.gz")), stringsAsFactors = TRUE)
  for (column in intersect(categorical, names(d))) d[[column]] <- factor(d[[column]])
  if (name == "cake") d$temperature <- factor(d$temperature, ordered = FALSE)
  d
}

minus2ll <- function(m) -2 * as.numeric(logLik(m))

quiet <- function(expression) suppressWarnings(suppressMessages(expression))

fit_tightly <- function(formula, d, reml, big) {
  first <- quiet(lme4::lmer(formula, d, REML = reml, control = lmerControl(
    optimizer = "bobyqa", calc.derivs = FALSE, optCtrl = list(maxfun = 2e5, rhoend = 1e-9))))
  second <- quiet(lme4::lmer(formula, d, REML = reml, start = getME(first, "theta"),
    control = lmerControl(optimizer = "Nelder_Mead", calc.derivs = FALSE, optCtrl = list(
      maxfun = if (big) 200 else 2e4, FtolAbs = 1e-12, XtolRel = 1e-12))))
  if (minus2ll(second) < minus2ll(first)) second else first
}

describe_fit <- function(name, formula, reml) {
  d <- read_table(name)
  big <- name == "InstEval"
  m <- fit_tightly(as.formula(formula), d, reml, big)
  r <- list(
    data = name, formula = formula, method = if (reml) "REML" else "ML", n = nobs(m),
    ngroups = as.list(sapply(getME(m, "flist"), nlevels)), minus2ll = minus2ll(m),
    fixef = as.list(fixef(m)), se = as.list(sqrt(diag(as.matrix(vcov(m))))),
    theta = getME(m, "theta"), sigma = sigma(m), varcorr = as.data.frame(VarCorr(m)),
    AIC = AIC(m), BIC = BIC(m), singular = isSingular(m))
  r$ranef <- lapply(ranef(m, condVar = TRUE), function(x) {
    rows <- head(as.data.frame(x), 3)
    rows$.level <- rownames(rows)
    rows
  })
  if (!big) {
    with_tests <- quiet(lmerTest::as_lmerModLmerTest(m))
    r$df_satterthwaite <- as.list(coef(summary(with_tests))[, "df"])
    if (reml && nrow(d) < 8000) {
      kr <- coef(summary(with_tests, ddf = "Kenward-Roger"))
      r$kenward_roger <- list(df = as.list(kr[, "df"]), se = as.list(kr[, "Std. Error"]))
      tests <- anova(with_tests, type = 3)
      if (nrow(tests) > 0) r$anova3 <- cbind(term = rownames(tests), as.data.frame(tests))
    }
  }
  cat(name, formula, r$method, format(r$minus2ll, digits = 12), "\n")
  r
}

results <- list()
for (model in models) for (reml in c(TRUE, FALSE)) {
  results[[length(results) + 1]] <- describe_fit(model[1], model[2], reml)
}
write_json(results, out_file, auto_unbox = TRUE, digits = 10, pretty = TRUE)
