# Simulated ratings, and reference fits by nlme of AR(1) residuals of persons beside crossed
# intercepts of persons and items.
# Rscript scripts/regenerate_reference_crossed_residual.R tests/data
suppressMessages({library(nlme); library(jsonlite)})
folder <- commandArgs(trailingOnly = TRUE)[1]
set.seed(5)
persons <- 40; items <- 12; times <- 8
data <- expand.grid(time = seq_len(times), person = factor(seq_len(persons)))
data$item <- factor(sample(items, nrow(data), replace = TRUE))
data$x <- round(rnorm(nrow(data)), 3)
e <- as.numeric(replicate(persons, arima.sim(list(ar = 0.5), times)))
data$y <- round(2 + 0.5 * data$x + rnorm(persons)[data$person] + rnorm(items)[data$item] + e, 3)
connection <- gzfile(file.path(folder, "crossed_ratings.csv.gz"), "w")
write.csv(data, connection, row.names = FALSE)
close(connection)
data$all <- factor(1)
control <- lmeControl(opt = "optim", tolerance = 1e-10, msTol = 1e-12, maxIter = 500, msMaxIter = 1000)
random <- list(all = pdBlocked(list(pdIdent(~ person - 1), pdIdent(~ item - 1))))
out <- list()
for (method in c("ML", "REML")) {
  # one level of the factor "all": nlme says that its matrix is singular, which is meant
  fit <- suppressWarnings(lme(y ~ x, data, random = random, method = method, control = control,
    correlation = corAR1(0.4, form = ~ time | all/person)))
  sds <- as.matrix(fit$modelStruct$reStruct$all) * fit$sigma^2
  out[[length(out) + 1]] <- list(method = method, minus2ll = -2 * as.numeric(logLik(fit)),
    beta = fixef(fit), rho = coef(fit$modelStruct$corStruct, unconstrained = FALSE),
    person = sds[1, 1], item = sds[nrow(sds), nrow(sds)], sigma = fit$sigma)
}
write(toJSON(list(nlme = as.character(packageVersion("nlme")), R = R.version.string, fits = out),
             auto_unbox = TRUE, digits = 12, pretty = TRUE), file.path(folder, "crossed_residual.json"))
