# Chi-square of each level of two-level structural models, the other level saturated, by lavaan.
#
# Usage: Rscript scripts/regenerate_reference_sem_levels.R DATA_DIRECTORY OUT.json
#   DATA_DIRECTORY holds Demo.twolevel.csv.gz (in this repository: tests/data).
#
# tests/data/sem_levels.json was made with R 4.2.2 and lavaan 0.6-14, whose optimiser's tolerance is
# tightened (where that is out of reach, its own is used). The saturated level is written out by hand: all variances and covariances.

suppressMessages({library(lavaan); library(jsonlite)})

arguments <- commandArgs(TRUE)
stopifnot(length(arguments) == 2)
demo <- read.csv(file.path(arguments[1], "Demo.twolevel.csv.gz"))

full <- function(names) paste(outer(names, names, function(a, b) paste0(" ", a, " ~~ ", b))[
  lower.tri(diag(length(names)), diag = TRUE)], collapse = "\n")
alone <- function(names) paste0(" ", names, " ~~ ", names, collapse = "\n")
text <- function(within, between) paste0("level: 1\n", within, "\nlevel: 2\n", between, "\n")

chisq <- function(model, ...) {
  run <- function(control) suppressWarnings(
    sem(model, demo, cluster = "cluster", information = "observed", control = control, ...))
  fit <- run(list(rel.tol = 1e-11, iter.max = 5000))
  if (!lavInspect(fit, "converged")) fit <- run(list())
  stopifnot(lavInspect(fit, "converged"))
  found <- fitMeasures(fit)
  wanted <- c("chisq", "df", "pvalue", "chisq.scaled", "chisq.scaling.factor")
  as.list(found[intersect(wanted, names(found))])
}

# four items; one factor within, two items with one loading and no covariance besides between
y <- paste0("y", 1:4)
within <- " fw =~ y1 + y2 + y3 + y4"
between <- " fb =~ y1 + 1*y2 + y3\n y4 ~~ y4"
one <- function(...) list(
  model = text(within, between),
  within = chisq(text(within, full(y)), ...),
  between = chisq(text(full(y), between), ...),
  within_baseline = chisq(text(alone(y), full(y)), ...),
  between_baseline = chisq(text(full(y), alone(y)), ...))

# with predictors at both levels, which are fixed: the saturated level regresses on all of them
x <- c("x1", "x2"); w <- c("w1", "w2"); z <- paste0("y", 1:3)
on <- function(names, predictors)
  paste0(" ", names, " ~ ", paste(predictors, collapse = " + "), collapse = "\n")
within2 <- " fw =~ y1 + y2 + y3\n fw ~ x1 + x2"
between2 <- " fb =~ y1 + y2 + y3\n fb ~ w1 + w2"
two <- list(model = text(within2, between2),
  within = chisq(text(within2, paste0(full(z), "\n", on(z, w)))),
  between = chisq(text(paste0(full(z), "\n", on(z, x)), between2)))

write(toJSON(list(items = one(estimator = "ML"), items_mlr = one(estimator = "MLR"),
                  predictors = two), auto_unbox = TRUE, digits = 11, pretty = TRUE), arguments[2])
