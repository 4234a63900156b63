# Reference fits with several levels per row and with correlated levels, by lme4's modular
# interface with Zt made by hand.
#
# Usage: Rscript scripts/regenerate_reference_related.R DATA_DIRECTORY OUT.json
#   DATA_DIRECTORY holds Hsb82.csv.gz (in this repository: tests/data).
#
# tests/data/related.json was made with R 4.2.2, lme4 1.1-31 and Matrix 1.5-3.
# Every third row (3, 6, 9, ...) belongs to the next school of the list too: weights 0.7 and 0.3.
# Correlated levels: A_ij = 0.6^|i - j| over the schools in the order of the file; Zt is premultiplied
# by the Cholesky factor of A (Vazquez et al. 2010, Journal of Animal Science 88:497).

suppressMessages({
  library(lme4); library(Matrix); library(jsonlite)
})

arguments <- commandArgs(TRUE)
stopifnot(length(arguments) == 2)
d <- read.csv(gzfile(file.path(arguments[1], "Hsb82.csv.gz")))
labels <- unique(as.character(d$school))
d$school <- factor(as.character(d$school), levels = labels)
J <- length(labels)
n <- nrow(d)
first <- as.integer(d$school)
second <- first %% J + 1
weight <- ifelse(seq_len(n) %% 3 == 0, 0.3, 0)

fit <- function(formula, change, reml) {
  parts <- lFormula(formula, d, REML = reml)
  parts$reTrms$Zt <- as(change(parts$reTrms$Zt), "CsparseMatrix")
  objective <- do.call(mkLmerDevfun, parts)
  best <- optimizeLmer(objective, optimizer = "bobyqa", control = list(rhoend = 1e-10))
  made <- mkMerMod(environment(objective), best, parts$reTrms, fr = parts$fr)
  list(
    criterion = best$fval,
    fixed = unname(fixef(made)),
    std_error = unname(sqrt(diag(as.matrix(vcov(made))))),
    covariance = unname(lapply(VarCorr(made), function(G) matrix(as.numeric(G), nrow(G)))),
    sigma = sigma(made),
    effects = unname(head(as.numeric(as.matrix(ranef(made, condVar = FALSE)[[1]])), 5))
  )
}

members <- sparseMatrix(
  i = c(first, second), j = c(seq_len(n), seq_len(n)), x = c(1 - weight, weight), dims = c(J, n)
)
slopes <- rbind(members, members %*% Diagonal(n, d$ses))
slopes <- slopes[as.vector(rbind(seq_len(J), J + seq_len(J))), ]  # by level, then by column
root <- as(t(chol(0.6^abs(outer(seq_len(J), seq_len(J), "-")))), "CsparseMatrix")

models <- list(
  membership = list(mAch ~ ses + (1 | school), function(Zt) members),
  membership_slopes = list(mAch ~ ses + (ses | school), function(Zt) slopes),
  relation = list(mAch ~ ses + (1 | school), function(Zt) t(root) %*% Zt)
)
out <- list()
for (name in names(models)) {
  for (method in c("ml", "reml")) {
    model <- models[[name]]
    out[[paste(name, method, sep = "_")]] <- fit(model[[1]], model[[2]], method == "reml")
  }
}
write(toJSON(out, digits = 12, auto_unbox = TRUE, pretty = TRUE), arguments[2])
