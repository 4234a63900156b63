# Reference fits of two-level structural models by lavaan.
#
# Usage: Rscript scripts/regenerate_reference_sem.R DATA_DIRECTORY OUT.json
#   DATA_DIRECTORY holds Demo.twolevel.csv.gz (in this repository: tests/data).
#
# tests/data/sem_more.json was made with R 4.2.2 and lavaan 0.6-14. Holes are made by the rules
# below, which the tests repeat. The optimiser's tolerance is tightened; the EM steps of the
# saturated model too.

suppressMessages({library(lavaan); library(jsonlite)})

arguments <- commandArgs(TRUE)
stopifnot(length(arguments) == 2)
full <- read.csv(file.path(arguments[1], "Demo.twolevel.csv.gz"))
i <- seq_len(nrow(full))
holes <- full
holes$y1[i %% 7 == 3] <- NA
holes$y2[i %% 11 == 5] <- NA
holes$y3[full$x1 > 1.2] <- NA
holes$x2[i %% 13 == 0] <- NA
holes_level2 <- holes
holes_level2$w1[full$cluster %% 10 == 4] <- NA

factor_model <- "level: 1
 f =~ y1 + y2 + y3
 f ~ x1 + x2
level: 2
 fb =~ y1 + y2 + y3
 fb ~ w1
"
equal_loadings <- "level: 1
 f =~ y1 + a*y2 + b*y3
level: 2
 fb =~ y1 + a*y2 + b*y3
 fb ~ w1 + w2
"
path_model <- "level: 1
 y1 ~ b*y2 + x1
 y3 ~ y1 + x2
 y2 ~ a*x1
level: 2
 y1 ~ bb*y2 + w1
 y3 ~ y1 + w2
 y2 ~ aa*w1
 indw := a*b
 indb := aa*bb
"
single <- "f =~ y1 + y2 + y3
 f ~ x1 + x2
"

cases <- list(
  list(name = "factor", model = factor_model, data = "full", estimator = "ML"),
  list(name = "factor", model = factor_model, data = "full", estimator = "MLR"),
  list(name = "equal_loadings", model = equal_loadings, data = "full", estimator = "MLR"),
  list(name = "path", model = path_model, data = "full", estimator = "MLR", modelled = TRUE),
  list(name = "factor_holes", model = factor_model, data = "holes", estimator = "ML",
       modelled = TRUE),
  list(name = "path_holes", model = path_model, data = "holes_level2", estimator = "ML",
       modelled = TRUE),
  list(name = "single_level", model = single, data = "full", estimator = "MLR", cluster = FALSE),
  list(name = "single_level", model = single, data = "full", estimator = "ML", cluster = FALSE,
       information = "expected"),
  list(name = "single_level_holes", model = single, data = "holes", estimator = "ML",
       cluster = FALSE, modelled = TRUE)
)

fit_case <- function(case) {
  data <- get(case$data)
  options <- list(model = case$model, data = data, estimator = case$estimator,
                  fixed.x = !isTRUE(case$modelled), meanstructure = TRUE,
                  control = list(rel.tol = 1e-11, iter.max = 5000),
                  em.h1.iter.max = 5000, em.h1.tol = 1e-9)
  if (!identical(case$cluster, FALSE)) options$cluster <- "cluster"
  if (case$data != "full") options$missing <- "ml"
  options$information <- if (is.null(case$information)) "observed" else case$information
  fit <- suppressWarnings(do.call("sem", options))
  if (!lavInspect(fit, "converged")) {  # the tight tolerance is out of reach: lavaan's own
    options$control <- list()
    fit <- suppressWarnings(do.call("sem", options))
  }
  table <- parTable(fit)
  estimates <- parameterEstimates(fit, remove.nonfree = FALSE)
  standard <- standardizedSolution(fit)
  table$se[is.na(table$se)] <- 0
  rows <- data.frame(
    lhs = table$lhs, op = table$op, rhs = table$rhs, est = table$est, se = table$se,
    free = table$free, std = standard$est.std[match(
      paste(table$lhs, table$op, table$rhs, table$block),
      paste(standard$lhs, standard$op, standard$rhs,
            if (is.null(standard$level) && is.null(standard$group)) table$block else
              ((if (is.null(standard$group)) 1 else standard$group) - 1) *
                (if (is.null(standard$level)) 1 else 2) +
                (if (is.null(standard$level)) 1 else standard$level)))])
  rows$level <- if (is.null(table$level)) 1 else table$level
  rows$group <- if (is.null(table$group)) 1 else pmax(table$group, 1)
  measures <- as.list(fitMeasures(fit))
  wanted <- c("npar", "chisq", "df", "pvalue", "baseline.chisq", "baseline.df", "cfi", "tli",
              "rmsea", "rmsea.ci.lower", "rmsea.ci.upper", "aic", "bic", "srmr", "srmr_within",
              "srmr_between", "chisq.scaled", "chisq.scaling.factor", "cfi.robust", "tli.robust",
              "rmsea.robust")
  list(name = case$name, data = case$data, estimator = case$estimator, model = case$model,
       is_modelled = isTRUE(case$modelled),
       has_cluster = !identical(case$cluster, FALSE), information = options$information,
       minus2ll = -2 * as.numeric(logLik(fit)), est = rows,
       fit = measures[intersect(wanted, names(measures))])
}

fits <- lapply(cases, function(case) {
  message(case$name, " ", case$estimator)
  fit_case(case)
})
write(toJSON(fits, auto_unbox = TRUE, digits = 11, pretty = TRUE, na = "null"),
      arguments[2])
