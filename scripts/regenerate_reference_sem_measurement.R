# Factor scores, modification indices and tests of measurement invariance by lavaan.
#
# Usage: Rscript scripts/regenerate_reference_sem_measurement.R DATA_DIRECTORY OUT.json
#   DATA_DIRECTORY holds Demo.twolevel.csv.gz and HolzingerSwineford1939.csv.gz (in this
#   repository: tests/data; the latter is the data frame of that name of lavaan, written by
#   write.csv(..., row.names = FALSE)).
#
# tests/data/sem_measurement.json was made with R 4.2.2 and lavaan 0.6-14. The optimiser's
# tolerance is tightened; where that is out of reach, lavaan's own is used.

suppressMessages({library(lavaan); library(jsonlite)})

arguments <- commandArgs(TRUE)
stopifnot(length(arguments) == 2)
demo <- read.csv(file.path(arguments[1], "Demo.twolevel.csv.gz"))
hs <- read.csv(file.path(arguments[1], "HolzingerSwineford1939.csv.gz"))

run <- function(model, data, ...) {
  tight <- list(rel.tol = 1e-11, iter.max = 5000)
  call <- function(control)
    suppressWarnings(sem(model, data, meanstructure = TRUE, control = control, ...))
  fit <- call(tight)
  if (!lavInspect(fit, "converged")) fit <- call(list())
  stopifnot(lavInspect(fit, "converged"))
  fit
}

# -- scores and modification indices ------------------------------------------------------------
# Without predictors at level 2: with one, lavaan's level-2 scores are up to 0.014 off the posterior
# mean (brute-force conditioning of the joint normal distribution), here they agree.
scored <- "level: 1
 f =~ y1 + y2 + y3
 f ~ x1 + x2
level: 2
 fb =~ y1 + y2 + y3
"
fit <- run(scored, demo, cluster = "cluster", information = "observed")
one <- as.numeric(lavPredict(fit, level = 1L)[, "f"])
two <- as.numeric(lavPredict(fit, level = 2L)[, "fb"])
plain <- "level: 1
 f =~ y1 + y2 + y3
 f ~ x1 + x2
 y4 ~ f + x3
level: 2
 fb =~ y1 + y2 + y3
 fb ~ w1
 y4 ~ w2
"
larger <- run(plain, demo, cluster = "cluster", information = "expected")
kept <- function(fit) {
  table <- modindices(fit)
  if (is.null(table$level)) table$level <- 1
  table[table$op %in% c("~~", "=~") & table$mi > 1e-6,
        c("lhs", "op", "rhs", "level", "mi", "epc")]
}

# -- invariance ---------------------------------------------------------------------------------
row <- function(name, fit) {
  wanted <- c("npar", "chisq", "df", "pvalue", "chisq.scaled", "chisq.scaling.factor", "cfi", "tli",
              "rmsea", "srmr", "srmr_within", "srmr_between", "aic", "bic")
  measures <- as.list(fitMeasures(fit))
  list(name = name, minus2ll = -2 * as.numeric(logLik(fit)),
       fit = measures[intersect(wanted, names(measures))])
}
tests <- function(fits) {
  table <- tryCatch(do.call(lavTestLRT, unname(fits)), error = function(e) NULL)
  if (is.null(table)) return(NULL)  # a scaling factor that does not exist
  list(statistic = table[[grep("Chisq diff", names(table))]][-1],
       df = table[["Df diff"]][-1], p_value = table[["Pr(>Chisq)"]][-1])
}
both <- function(fits) list(steps = mapply(row, names(fits), fits, SIMPLIFY = FALSE,
                                           USE.NAMES = FALSE), tests = tests(fits))

levels_of <- function(estimator) {
  texts <- c(
    configural = "level: 1
 f =~ y1 + y2 + y3
level: 2
 f =~ y1 + y2 + y3
", weak = "level: 1
 f =~ y1 + a*y2 + b*y3
level: 2
 f =~ y1 + a*y2 + b*y3
", strong = "level: 1
 f =~ y1 + a*y2 + b*y3
level: 2
 f =~ y1 + a*y2 + b*y3
 y1 ~~ 0*y1
 y2 ~~ 0*y2
 y3 ~~ 0*y3
")
  both(lapply(texts, run, demo, cluster = "cluster", estimator = estimator,
              information = "observed"))
}

three <- "visual =~ x1 + x2 + x3
textual =~ x4 + x5 + x6
speed =~ x7 + x8 + x9
"
equal <- list(configural = "", weak = "loadings", strong = c("loadings", "intercepts"),
              strict = c("loadings", "intercepts", "residuals"))
classic <- run(three, hs, information = "expected")

groups_of <- function(estimator) {
  both(lapply(equal, function(which) run(three, hs, group = "school", group.equal = which,
                                         estimator = estimator, information = "observed")))
}

write(toJSON(list(
  scores = list(model = scored, within = one, between = two),
  modification = list(model = plain, minus2ll = -2 * as.numeric(logLik(larger)), rows = kept(larger)),
  modification_single = list(model = three, minus2ll = -2 * as.numeric(logLik(classic)),
                             rows = kept(classic)),
  levels_ml = levels_of("ML"), levels_mlr = levels_of("MLR"),
  groups_ml = groups_of("ML"), groups_mlr = groups_of("MLR"), groups_model = three
), auto_unbox = TRUE, digits = 11, pretty = TRUE, na = "null"), arguments[2])
